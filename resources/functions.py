"""Functions as Things: the source of a function, what it was called with, and what came of it, in one Thing.

The source is kept as text together with the imports that it needs, so that it can be called again: in another process,
with other inputs, by somebody else. It is run when a person asks for it, and never on the way to anything else.
"""

import ast
import builtins
import dis
import importlib
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from resources.store import Store
from resources.things import BadDraft, Thing, UnknownThing, pack
from resources.uploads import FIELDS, Reference
from resources.values import is_table, value_of

SOURCE = "function.py"
RESULT = "result"

_Function = Callable[..., Any]


class BadFunction(BadDraft):
    """A function cannot be kept, because its source alone would not do the same."""


def run(
    store: Store,
    function: "_Function | Reference",
    inputs: Mapping[str, Reference],
    parameters: Mapping[str, Any],
    name: str | None,
    labels: Mapping[str, Any] | None,
) -> Thing:
    """Call a function on Things and log what it returns; see `Store.run`."""
    if isinstance(function, Thing | str):
        of = store.get(function) if isinstance(function, str) else function
        source, called = source_of(of), str(of.parameters["function"])
    else:
        of, source, called = None, kept_source(function), function.__name__
    # What is logged is what was called: the source as it is kept, not the function that it was taken from.
    kept = _loaded(source, called)
    things = {key: one if isinstance(one, Thing) else store.get(one) for key, one in inputs.items()}
    given = _bound(kept, things, parameters)
    pack(given, f"an argument of {called}")
    with store.recording():
        if of is not None:
            of.read()
        values = {
            key: value_of(thing.read(), _wanted(kept, key), f"`{key}` of {called}")
            for key, thing in things.items()
        }
        result = kept(**values, **given)
        said = _said(result)
        said["artifacts"] = {**said.get("artifacts", {}), SOURCE: source}
        said["labels"] = {**said.get("labels", {}), **(labels or {})}
        said["parameters"] = {
            **said.get("parameters", {}),
            "function": called,
            "inputs": {key: thing.id for key, thing in things.items()},
            "arguments": given,
        }
        return store.log(name=name or called, **said)


def source_of(thing: Thing) -> str:
    """Return the source of the function that a Thing keeps.

    Raises:
        UnknownThing: If it keeps none.
        DamagedThing: If its source is not what was committed.
    """
    if SOURCE not in thing.artifacts or "function" not in thing.parameters:
        raise UnknownThing(f"{thing} keeps no function; `Store.run` makes Things that do")
    return thing.artifact(SOURCE).decode()


def kept_source(function: _Function) -> str:
    """Return a module's text that defines a function as it is, with the imports that it needs.

    Raises:
        BadFunction: If it is no plain function, or uses what neither its parameters nor an import give it.
    """
    name = getattr(function, "__name__", repr(function))
    if not isinstance(function, types.FunctionType) or name == "<lambda>":
        raise BadFunction(f"{name} is no function that `def` made; write one")
    if function.__closure__:
        raise BadFunction(
            f"{name} uses {', '.join(function.__code__.co_freevars)} of the function around it; "
            "give it as a parameter"
        )
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError:
        raise BadFunction(
            f"the source of {name} cannot be found; write it in a file or in a notebook's cell"
        ) from None
    if not source.startswith("def "):
        raise BadFunction(f"{name} is decorated or no plain `def`; give the function itself")
    used = {
        key: function.__globals__[key]
        for key in sorted(_names(function, source))
        if key in function.__globals__
    }
    lines = [_import_of(key, value, name) for key, value in used.items() if key != name]
    return "\n".join([*lines, *(["", ""] if lines else []), source])


def _names(function: types.FunctionType, source: str) -> set[str]:
    """Return every name that a function may look up outside of itself, those in its signature included."""
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.FunctionDef)
    annotations = [node.annotation for node in ast.walk(definition.args) if isinstance(node, ast.arg)]
    # One that is written as text is looked up as well.
    in_text = [
        ast.parse(one.value, mode="eval")
        for one in (*annotations, definition.returns)
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    ]
    signature = [definition.args, *([definition.returns] if definition.returns else []), *in_text]
    asked = {node.id for part in signature for node in ast.walk(part) if isinstance(node, ast.Name)}
    return asked | set(_names_in(function.__code__))


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from (str(one.argval) for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def _import_of(name: str, value: Any, function: str) -> str:
    if isinstance(value, types.ModuleType):
        return f"import {value.__name__} as {name}" if value.__name__ != name else f"import {name}"
    module, own = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module and module != "__main__" and own and "." not in own:
        found = getattr(importlib.import_module(module), own, None)
        if found is value:
            if module == builtins.__name__:
                return f"{name} = {own}"
            return f"from {module} import {own}" + (f" as {name}" if name != own else "")
    raise BadFunction(
        f"{function} uses {name!r} of the module it is written in, which its source alone does not have; "
        "give it as a parameter, or import it from a package"
    )


def _loaded(source: str, name: str) -> _Function:
    module = types.ModuleType("kept_function")
    exec(compile(source, f"<{SOURCE}>", "exec"), module.__dict__)  # noqa: S102 - a person asked to call it
    return typing.cast("_Function", module.__dict__[name])


def _bound(function: _Function, things: Mapping[str, Thing], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return every argument of a call but the Things, defaults included.

    Raises:
        BadFunction: If something is missing, given twice, or not asked for.
    """
    if twice := sorted(set(things) & set(parameters)):
        raise BadFunction(f"{', '.join(twice)} is given as an input and as a parameter; give it once")
    try:
        bound = inspect.signature(function).bind(**things, **parameters)
    except TypeError as error:
        raise BadFunction(
            f"{function.__name__}{inspect.signature(function)} cannot be called so: {error}"
        ) from None
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(key)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            arguments.pop(key)
    return {key: value for key, value in arguments.items() if key not in things}


def _wanted(function: _Function, name: str) -> Any:
    return typing.get_type_hints(function).get(name, Thing)


def _said(result: Any) -> dict[str, Any]:
    """Return what a function's result says about the Thing: its parts by name, one table, or one other value."""
    if (
        isinstance(result, Mapping)
        and result
        and set(result) <= FIELDS - {"name", "based_on", "trusted_types"}
    ):
        return dict(result)
    if result is None:
        return {}
    return {"dataset": result} if is_table(result) else {"artifacts": {RESULT: result}}
