"""Sections of spec files: what they are made of, how they are read, and how their mistakes are told.

A spec is a YAML file whose values become a frozen pydantic model. Whatever is wrong in it is told all at once, each
mistake with its line, its field and an example of what is right.
"""

import json
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from resources.errors import MlassetsError

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
SLUG_LENGTH = 63
SOURCE_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
MAX_SPEC_BYTES = 1_000_000
MAX_SPEC_VALUES = 50_000
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong in a spec file.

    Attributes:
        line: Line in the file, counted from 1; None where the file has none (it could not be opened).
        field: Dotted path of the field, for instance `target.task`; empty for the file as a whole.
        wrong: What is wrong, in a phrase.
        example: What a right value looks like.
    """

    line: int | None
    field: str
    wrong: str
    example: str

    def __str__(self) -> str:
        place = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.field) if part)
        return f"{place + ': ' if place else ''}{self.wrong}\n    for example: {self.example}"


class SpecError(MlassetsError):
    """A project spec cannot be used; all its mistakes are listed, the first is also given as attributes.

    Attributes:
        file: The spec file.
        project: The project that the file names, where that much could be read.
        mistakes: What is wrong, in the order of the file.
    """

    def __init__(self, file: Path, mistakes: Sequence[Mistake], project: str | None = None) -> None:
        self.file = file
        self.project = project
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line or 0))
        first = self.mistakes[0]
        self.line, self.field, self.wrong, self.example = first.line, first.field, first.wrong, first.example
        count = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        super().__init__("\n".join([f"{file}: {count}", *(f"  {mistake}" for mistake in self.mistakes)]))


class WrongError(ValueError):
    """Mistakes found inside one field, each with its place relative to that field."""

    def __init__(self, *found: tuple[tuple[str | int, ...], str]) -> None:
        self.found = found
        super().__init__("; ".join(text for _, text in found))


def shown(value: object, length: int = 60) -> str:
    """Return a value as it may stand in an error message: quoted, on one line, never longer than `length`."""
    text = value[: length + 1] if isinstance(value, str) else value
    quoted = json.dumps(text, ensure_ascii=False, default=lambda other: repr(other)[:length])
    return quoted if len(quoted) <= length else f"{quoted[: length - 1]}…"


def close_matches(name: str, known: Iterable[str]) -> str:
    """Return a half sentence that names what `name` may have meant, or else what there is."""
    names = list(known)
    near = get_close_matches(name[:100], names, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"there is {listed}" if names else "there is none"


def slugify(text: str) -> str:
    """Return the slug nearest to `text`: lower-case ASCII letters, digits, single hyphens, at most 63."""
    ascii_only = unicodedata.normalize("NFKD", text[:500]).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")[:SLUG_LENGTH].rstrip("-") or "project"


def memory_bytes(text: str) -> int:
    """Return a size such as `2GB` or `512 MiB` in bytes.

    Raises:
        ValueError: If `text` is not a positive number with one of the units.
    """
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    units |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*([KMGT]i?B)", text.strip())
    size = int(float(match[1]) * units[match[2]]) if match else 0
    if size <= 0:
        raise ValueError(f"{shown(text)} is not a size; write a number and one of {', '.join(units)}")
    return size


def duration(text: str) -> timedelta:
    """Return a duration such as `30min`, `6h` or `35 d`.

    Raises:
        ValueError: If `text` is not a positive number with one of the units.
    """
    units = {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
    match = re.fullmatch(r"(\d{1,5}(?:\.\d{1,3})?)\s*(min|h|d)", text.strip())
    length = float(match[1]) * units[match[2]] if match else timedelta(0)
    if length <= timedelta(0):
        raise ValueError(f"{shown(text)} is not a duration; write a number and one of {', '.join(units)}")
    return length


def _duration(text: str) -> str:
    duration(text)
    return text.strip()


def _memory(text: str) -> str:
    memory_bytes(text)
    return text.strip()


def named(text: str) -> str:
    """Return a name that people gave.

    Raises:
        ValueError: If it is blank, or holds what does not show.
    """
    if not text.strip():
        raise ValueError("is empty")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError(f"{shown(text)} holds a control character (a line break, a tab, …)")
    return text


def unique(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of which each is there once.

    Raises:
        WrongError: At the first that is there twice.
    """
    seen: set[str] = set()
    for position, name in enumerate(names):
        if name in seen:
            raise WrongError(((position,), f"{shown(name)} is there twice"))
        seen.add(name)
    return names


Column = Annotated[str, AfterValidator(named)]
Columns = Annotated[tuple[Column, ...], AfterValidator(unique)]
Person = Annotated[str, AfterValidator(named)]
People = Annotated[tuple[Person, ...], AfterValidator(unique)]
Memory = Annotated[str, AfterValidator(_memory)]
Duration = Annotated[str, AfterValidator(_duration)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of a spec: it knows its fields, takes no others, and does not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Place = tuple[str | int, ...]
"""Where something stands in a file: names of fields and positions in lists, from the outside in."""


S = TypeVar("S", bound=Section)


@dataclass(frozen=True, eq=False)
class Grammar(Generic[S]):
    """What the files of one kind say.

    Attributes:
        section: What a whole file becomes.
        examples: What a right value looks like, by dotted field, "" for the whole; a field that is not here borrows
            from its parent.
        nested: Sections whose fields have one example however deep they stand: that of `<section>.<field>`.
        named_by: The field that names what the file is about, where one does.
        place: Where a value stands in the file, by where it stands in the model, which may have levels of its own.
    """

    section: type[S]
    examples: Mapping[str, str]
    nested: tuple[str, ...] = ()
    named_by: str | None = None
    place: Callable[[Place, Any], Place] = lambda place, _: place

    def read(self, path: Path) -> tuple[S, Any]:
        """Read a file and its document, which nobody changes: what was not written to is not parsed again.

        Raises:
            SpecError: With every mistake in the file: its line, field, what is wrong and an example of right.
        """
        try:
            state = path.stat()
        except OSError:
            return self._parse(path)
        # A file system's clock ticks slowly: what was written a moment ago may be written again at the same time.
        if time.time_ns() - state.st_mtime_ns < _SETTLED_NS:
            return self._parse(path)
        # Sensors look at the same time after a start: the first to come parses, the others take what it parsed.
        with _parsing:
            return cast("tuple[S, Any]", _parsed(self, path, state.st_mtime_ns, state.st_size, state.st_ino))

    def _parse(self, path: Path) -> tuple[S, Any]:
        document = _read_yaml(path, self.examples[""])
        values = self._plain(path, document)
        name = values.get(self.named_by) if self.named_by else None
        about = name if isinstance(name, str) and SLUG.fullmatch(name) else None
        try:
            return self.section.model_validate(values), document
        except ValidationError as error:
            raise SpecError(path, list(self._mistakes(error, document)), about) from None

    def mistake(self, document: Any, where: Place, wrong: str) -> Mistake:
        """Return a mistake at `where`, with the line of the deepest part of that path which the file has."""
        node, line = document, 0
        for part in where:
            if isinstance(node, dict) and part in node:
                line = node.lc.key(part)[0] if hasattr(node, "lc") and part in (node.lc.data or {}) else line
            elif isinstance(node, list) and isinstance(part, int) and part < len(node):
                line = node.lc.item(part)[0] if hasattr(node, "lc") else line
            else:
                break
            node = node[part]
        path = [shown(part).strip('"') for part in where]
        return Mistake(line + 1, ".".join(path), wrong, self._example(path))

    def _example(self, path: Sequence[str]) -> str:
        for section in self.nested:
            below = path[path.index(section) + 1 :] if section in path else []
            fields = (self.examples.get(f"{section}.{part}") for part in reversed(below))
            if example := next(filter(None, fields), None):
                return example
        depths = range(len(path), -1, -1)
        known = (self.examples.get(".".join(path[:depth])) for depth in depths)
        return next(example for example in known if example)

    def _plain(self, path: Path, document: Any) -> dict[str, Any]:
        """Return the document as plain dicts, lists and scalars, refusing what no spec can mean."""
        count = 0

        def refuse(where: Place, wrong: str) -> SpecError:
            return SpecError(path, [self.mistake(document, where, wrong)])

        def walk(node: Any, where: Place) -> Any:
            nonlocal count
            count += 1
            # Aliases of aliases can stand for more values than memory holds.
            if count > MAX_SPEC_VALUES or len(where) > 50:
                raise refuse(where[:3], f"holds more than {MAX_SPEC_VALUES:,} values")
            if isinstance(node, dict):
                for name in node:
                    if not isinstance(name, str):
                        raise refuse((*where, name), f"{shown(name)} is not text; put it in quotes")
                return {str(name): walk(value, (*where, name)) for name, value in node.items()}
            if isinstance(node, list):
                return [walk(value, (*where, position)) for position, value in enumerate(node)]
            if hasattr(node, "tag") and not isinstance(node, str | int | float):
                raise refuse(where, "has a YAML tag (`!…`), which specs do not use")
            for plain in (bool, int, float, str):
                if isinstance(node, plain):
                    return plain(node)
            return node

        return dict(walk(document, ()))

    def _mistakes(self, error: ValidationError, document: Any) -> Iterable[Mistake]:
        for found in error.errors(include_url=False):
            where = self.place(tuple(part for part in found["loc"] if part != "[key]"), document)
            cause = found.get("ctx", {}).get("error")
            if isinstance(cause, WrongError):
                for inner, wrong in cause.found:
                    yield self.mistake(document, (*where, *inner), wrong)
            else:
                yield self.mistake(document, where, self._wrong(found, where, cause))

    def _wrong(self, found: Mapping[str, Any], where: Place, cause: object) -> str:
        kind, given = found["type"], found["input"]
        if kind == "missing":
            return "is missing"
        if kind == "extra_forbidden":
            known = _fields_at(self.section, where[:-1])
            return f"{shown(where[-1])} is no field here; {close_matches(str(where[-1]), known)}"
        if kind == "literal_error":
            return f"{shown(given)} is none of {found['ctx']['expected'].replace(chr(39), '')}"
        if cause is not None:
            return str(cause)
        if given is None:
            return "is given without a value"
        message = (
            found["msg"].replace("Input should be", "must be").replace("a valid dictionary", "a mapping")
        )
        return f"{message[0].lower()}{message[1:160]} (found {shown(given)})"


_parsing = threading.Lock()


@lru_cache(maxsize=2048)
def _parsed(grammar: Grammar[Any], path: Path, _mtime_ns: int, _size: int, _inode: int) -> tuple[Any, Any]:
    return grammar._parse(path)


def _fields_at(section: type[Section], where: Place) -> list[str]:
    """Return the fields that a section has at a place; none where people choose the names."""
    kind: Any = section
    for part in where:
        if isinstance(kind, type) and issubclass(kind, Section):
            kind = kind.model_fields[str(part)].annotation if str(part) in kind.model_fields else None
        else:
            kind = (get_args(kind) or (None,))[-1]
        kind = next((one for one in (kind, *get_args(kind)) if _is_level(one)), None)
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, Section) else []


def _is_level(kind: Any) -> bool:
    return get_origin(kind) is Mapping or (isinstance(kind, type) and issubclass(kind, Section))


def _read_yaml(path: Path, example: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    def refuse(wrong: str, line: int | None = None) -> SpecError:
        return SpecError(path, [Mistake(line, "", wrong, example)])

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}") from None
    if len(raw) > MAX_SPEC_BYTES:
        raise refuse(f"is larger than {MAX_SPEC_BYTES:,} bytes; a spec holds settings, not data")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise refuse(
            f"byte {error.start} (0x{raw[error.start]:02x}) is not UTF-8; save the file as UTF-8", line
        ) from None
    if not text.strip():
        raise refuse("is empty", 1)
    try:
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        problem = " ".join(str(error.problem).split())
        if "\\t" in problem:
            problem = "a tab indents this line; YAML is indented with spaces"
        elif "duplicate key" in problem:
            problem = problem.split(" with value")[0] + "; keep one of the two"
        raise refuse(problem[:200], error.problem_mark.line + 1 if error.problem_mark else None) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise refuse(f"character #x{error.character:04x} is not allowed in YAML", line) from None
    except (YAMLError, RecursionError, ValueError) as error:
        # ValueError: a scalar that looks like a date or number but is none, such as 2024-13-45.
        raise refuse(f"cannot be read as YAML: {' '.join(str(error).split())[:200]}", 1) from None
    if not isinstance(document, dict):
        raise refuse("is not a mapping of fields to values", 1)
    return document
