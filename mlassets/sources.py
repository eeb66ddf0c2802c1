"""Source specs: where the files of a source are, how they are read, and where they are fetched from.

A source is described where it is used (`sources:` of a project), or in a file of its own below `<home>/sources`, for
all projects. What nobody describes is found out by looking at the files.
"""

import codecs
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    StrictInt,
    field_validator,
    model_serializer,
    model_validator,
)

from mlassets.expectations import EXAMPLES as EXPECT_EXAMPLES
from mlassets.expectations import Expectations
from mlassets.ingestion.options import ReadOptions
from mlassets.quality.checks import checks_of
from mlassets.rules import MovedLimits
from mlassets.sections import (
    SLUG_LENGTH,
    SOURCE_NAME,
    Columns,
    Duration,
    Grammar,
    Section,
    SpecError,
    WrongError,
    close_matches,
    memory_bytes,
    shown,
    slugify,
)

LANDING = "landing"
_KIND = re.compile(r"text|integer|number|boolean|date|timestamp|decimal\(\d{1,2}, ?\d{1,2}\)")
# What a bare glob says nothing about: how the files are read, and more.
_READING = tuple(name for name in ReadOptions.__dataclass_fields__ if name != "unpacked")

SOURCE_EXAMPLES = {
    "files": 'files: "landing/flights/*"   or   files: "s3://bucket/exports/*.csv"',
    "description": "description: Departures, one row each, from the operations database",
    "format": "format: csv",
    "encoding": "encoding: latin-1",
    "delimiter": 'delimiter: ";"',
    "quote": 'quote: "\'"',
    "header": "header: false",
    "columns": "columns: [carrier, flight, delay]",
    "skip_rows": "skip_rows: 3",
    "decimal": 'decimal: ","',
    "thousands": 'thousands: "."',
    "date_format": 'date_format: "%d.%m.%Y"',
    "nulls": 'nulls: ["", "NA", "-"]',
    "types": "types: {zip: text, fare: decimal(10,2), day: date}",
    "widths": "widths: [4, 8, 12]",
    "tables": "tables: [2024, 2025]   or   tables: '*'",
    "records": "records: data.items",
    "on_bad_rows": "on_bad_rows: skip",
    "unpacked": 'unpacked: "50GB"',
    "stale_after": "stale_after: 36h",
    "checks": 'checks: {fail: {values_are_valid: "<= 0.001"}, warn: {file_drift: "<= 0.4"}}',
    "checks.fail": 'fail: {values_are_valid: "<= 0.001"}',
    "checks.warn": 'warn: {file_drift: "<= 0.4"}',
    "fetch": "fetch: {url: https://example.org/flights.csv, every: 6h}",
    "fetch.url": "url: https://example.org/flights.csv",
    "fetch.database": "database: postgresql://reader@db.example.org/operations",
    "fetch.query": "query: SELECT * FROM departures",
    "fetch.name": 'name: "flights-%Y-%m-%d.csv"',
    "fetch.every": "every: 6h",
}


def _texts(given: Any) -> Any:
    """Take one text for a list of one, and numbers for texts."""
    values = [given] if isinstance(given, str | int) and not isinstance(given, bool) else given
    if not isinstance(values, list | tuple):
        return values
    return [str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in values]


def _bytes(given: Any) -> Any:
    return memory_bytes(given) if isinstance(given, str) else given


class FetchSpec(Section):
    """Where the files of a source are fetched from: a URL, or a query to PostgreSQL.

    Attributes:
        url: An address (`https://…`, `http://…`, `s3://bucket/key`).
        database: A PostgreSQL server and database; its password comes from `PGPASSWORD` or `~/.pgpass`.
        query: One SELECT over that database.
        name: Name under which it lands, with `%Y-%m-%d` and the like for the time; else that of the URL. Under one name
            the newest replaces what landed before; under names of their own all of it stays.
        every: How often to look; never by itself if it is left out.
    """

    url: str | None = None
    database: str | None = None
    query: str | None = None
    name: str | None = None
    every: Duration | None = None

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        parts = _split(url)
        if url is not None and (
            parts is None or parts.scheme not in ("http", "https", "s3") or not parts.netloc
        ):
            raise ValueError(f"{shown(url)} is no address that starts with https://, http:// or s3://")
        if parts is not None and "@" in parts.netloc:
            raise ValueError("holds a user or a password; specs hold no secrets: put them into ~/.netrc")
        return url

    @field_validator("database")
    @classmethod
    def _is_database(cls, database: str | None) -> str | None:
        parts = _split(database)
        if database is not None and (parts is None or parts.scheme not in ("postgresql", "postgres")):
            raise ValueError("is no address that starts with postgresql://")
        if parts is not None and (parts.password or "password" in parts.query):
            raise ValueError("holds a password; specs hold no secrets: put it into PGPASSWORD or ~/.pgpass")
        return database

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str | None) -> str | None:
        trouble = None if name is None else _glob_trouble(name)
        if name is not None and (trouble or "*" in name):
            raise ValueError(f"{shown(name)} {trouble or 'is a pattern; write the name of one file'}")
        return name

    @model_validator(mode="after")
    def _one_way(self) -> "FetchSpec":
        if (self.url is None) == (self.database is None):
            raise WrongError(((), "names either a `url` or a `database` with a `query`"))
        if (self.database is None) != (self.query is None):
            missing = "database" if self.database is None else "query"
            raise WrongError(((missing,), "is missing: `database` and `query` go together"))
        return self


def _split(url: str | None) -> Any:
    try:
        return urlsplit(url) if url is not None else None
    except ValueError:
        return None


class SourceSpec(Section):
    """One source: where its files are and how they are read; whatever is left out is found out.

    In a file a source that is only a glob may be written as that: `flights: "landing/flights/*"`.

    Attributes:
        files: Glob below the home, or below an S3 prefix; by default everything below `landing/<name>`.
        description: One sentence for people.
        fetch: Where the files are fetched from.
        stale_after: For how long at most no file may land before somebody is told.
        expect: What is expected of its rows.
        checks: Limits and severities of its verdicts that are moved.

    The others are those of `ReadOptions`; `unpacked` may have a unit.
    """

    files: str = ""
    description: str = ""
    format: str | None = None
    encoding: str | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=10)] | None = None
    quote: Annotated[str, Field(max_length=1)] | None = None
    header: bool | None = None
    columns: Columns | None = None
    skip_rows: Annotated[StrictInt, Field(ge=0)] = 0
    decimal: Literal[".", ","] | None = None
    thousands: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    date_format: Annotated[str, Field(min_length=2)] | None = None
    nulls: Annotated[tuple[str, ...], BeforeValidator(_texts)] | None = None
    types: Mapping[str, str] = {}
    widths: tuple[Annotated[StrictInt, Field(gt=0)], ...] | None = None
    tables: Annotated[tuple[str, ...], BeforeValidator(_texts)] | None = None
    records: str | None = None
    on_bad_rows: Literal["fail", "skip"] = "fail"
    unpacked: Annotated[int, Field(gt=0), BeforeValidator(_bytes)] | None = None
    fetch: FetchSpec | None = None
    stale_after: Duration | None = None
    expect: Expectations = Expectations()
    checks: MovedLimits = MovedLimits()

    @field_validator("checks")
    @classmethod
    def _known_checks(cls, checks: MovedLimits) -> MovedLimits:
        known = [name for entry in checks_of("sources") for name in (entry.claim, entry.measure)]
        wrong = [
            ((section, name), f"{shown(name)} is no check of a source; {close_matches(name, known)}")
            for section in ("fail", "warn")
            for name in getattr(checks, section)
            if name not in known
        ]
        if wrong:
            raise WrongError(*wrong)
        return checks

    @model_validator(mode="before")
    @classmethod
    def _glob_alone(cls, given: Any) -> Any:
        if isinstance(given, str):
            if not given.strip():
                raise WrongError(((), f"{shown(given)} is not a path"))
            return {"files": given}
        if given is None:
            return {}
        if not isinstance(given, Mapping | SourceSpec):
            raise WrongError(((), f"{shown(given)} is neither a glob (a string) nor a mapping of fields"))
        return given

    @field_validator("files")
    @classmethod
    def _files_within_reach(cls, files: str) -> str:
        if files and (wrong := _glob_trouble(files)):
            raise WrongError(((), f"{shown(files)} {wrong}"))
        return files

    @field_validator("format")
    @classmethod
    def _format_known(cls, name: str | None) -> str | None:
        if name is None:
            return None
        from mlassets.ingestion.formats import FORMATS

        known = [suffix.removeprefix(".") for suffix in FORMATS]
        plain = name.lower().removeprefix(".")
        if plain not in known:
            raise ValueError(f"{shown(name)} is no format that is read; {close_matches(plain, known)}")
        return plain

    @field_validator("encoding")
    @classmethod
    def _encoding_known(cls, encoding: str | None) -> str | None:
        try:
            if encoding is not None:
                codecs.lookup(encoding)
        except (LookupError, ValueError):
            raise ValueError(f"{shown(encoding)} is no encoding; write utf-8, latin-1, cp1252, …") from None
        return encoding

    @field_validator("types")
    @classmethod
    def _types_known(cls, types: Mapping[str, str]) -> Mapping[str, str]:
        wrong = [
            (
                (name,),
                f"{shown(kind)} is none of text, integer, number, boolean, date, timestamp, decimal(p,s)",
            )
            for name, kind in types.items()
            if not _KIND.fullmatch(kind)
        ]
        if wrong:
            raise WrongError(*wrong)
        return types

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any] | str:
        values = plain(self)
        given = {name: value for name, value in values.items() if getattr(self, name) != _default(name)}
        return self.files if set(given) == {"files"} else given

    @property
    def options(self) -> ReadOptions:
        """How the files are read, as far as the spec says."""
        given = {name: getattr(self, name) for name in _READING}
        if self.unpacked is not None:
            given["unpacked"] = self.unpacked
        return ReadOptions(**given)

    @property
    def only_files(self) -> "SourceSpec":
        """The same source with nothing but where its files are."""
        return SourceSpec(files=self.files)

    def with_place(self, name: str) -> "SourceSpec":
        """Return the spec with where the files of a source of this name are, if it does not say so itself."""
        return self if self.files else self.model_copy(update={"files": default_files(name)})


def _default(name: str) -> Any:
    return SourceSpec.model_fields[name].default


def default_files(name: str) -> str:
    """Return where the files of a source land that nobody describes."""
    return f"{LANDING}/{name}/**"


def together(name: str, one: SourceSpec, other: SourceSpec) -> SourceSpec | None:
    """Return what two descriptions of one source say together; None if they contradict each other.

    A description that says nothing, or only where the files are, agrees with a fuller one of the same files.
    """
    for bare, full in ((one, other), (other, one)):
        if bare == SourceSpec():
            return full
        if bare == bare.only_files and bare.files == full.with_place(name).files:
            return full
    return one if one == other else None


def covers(spec: SourceSpec, folder: str) -> bool:
    """Say whether the files of a source may lie in this folder of the landing zone."""
    from fnmatch import fnmatchcase

    parts = PurePosixPath(spec.files).parts
    if not parts or parts[0] != LANDING or len(parts) < 2:
        return False
    return parts[1] == "**" or (len(parts) > 2 and fnmatchcase(folder, parts[1]))


def _glob_trouble(glob: str) -> str | None:
    if not glob.strip() or any(unicodedata.category(character) == "Cc" for character in glob):
        return "is not a path"
    rest = glob.removeprefix("s3://")
    if rest != glob:
        if not rest.strip("/").partition("/")[2]:
            return "names a bucket; add which of its objects, such as s3://bucket/prefix/*"
    elif glob.startswith(("/", "~")) or "\\" in glob or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", glob):
        return "must be relative to the home, with / between folders, or start with s3://"
    if ".." in PurePosixPath(rest).parts:
        return "must stay inside the home: no `..`"
    if glob.endswith("/"):
        return "names a folder; add what to take from it, such as *"
    return None


def name_trouble(name: str) -> str | None:
    """Return why a source cannot have this name, or None if it can."""
    if SOURCE_NAME.fullmatch(name) and len(name) <= SLUG_LENGTH:
        return None
    hint = slugify(name).replace("-", "_")
    return f"source name {shown(name)} must be lower-case letters, digits, _ or -; write {hint}"


@dataclass(frozen=True)
class LoadedSources:
    """The sources of a home.

    Attributes:
        specs: Usable specs by name; each says where its files are.
        errors: One error per file that cannot be used; the source that it names is left as it is.
        files: File of each spec that has one of its own, by name.
    """

    specs: Mapping[str, SourceSpec]
    errors: tuple[SpecError, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def unreadable(self) -> frozenset[str]:
        """Names of the sources whose own file cannot be used."""
        return frozenset(error.file.stem for error in self.errors)


_GRAMMAR = Grammar(
    SourceSpec, {"": SOURCE_EXAMPLES["files"], **SOURCE_EXAMPLES, **EXPECT_EXAMPLES}, nested=("expect",)
)


def load_source(path: Path) -> SourceSpec:
    """Read the spec of a source, which is named by its file.

    Raises:
        SpecError: With every mistake in the file: its line, field, what is wrong and an example of right.
    """
    spec, document = _GRAMMAR.read(path)
    if wrong := name_trouble(path.stem):
        raise SpecError(
            path, [_GRAMMAR.mistake(document, (), f"the file is named after its source, and {wrong}")]
        )
    return spec.with_place(path.stem)


def load_sources(folder: Path) -> LoadedSources:
    """Read every `*.yaml` and `*.yml` of a folder; what cannot be used is reported beside what can."""
    specs: dict[str, SourceSpec] = {}
    files: dict[str, Path] = {}
    errors: list[SpecError] = []
    paths = folder.iterdir() if folder.is_dir() else ()
    for path in sorted(
        one for one in paths if one.suffix in (".yaml", ".yml") and not one.name.startswith(".")
    ):
        try:
            spec = load_source(path)
        except SpecError as error:
            errors.append(error)
            continue
        if path.stem in specs:
            wrong = f"{path.stem} is described by {files[path.stem].name} as well; one source has one file"
            errors.append(SpecError(path, [_GRAMMAR.mistake({}, (), wrong)]))
        specs[path.stem], files[path.stem] = spec, path
    broken = {error.file.stem for error in errors}
    kept = {name: spec for name, spec in specs.items() if name not in broken}
    return LoadedSources(kept, tuple(errors), {name: files[name] for name in kept})
