"""Estimators as bytes: skops with an allow-list, in a form that depends on nothing but the estimator."""

import io
import json
import zipfile
from collections.abc import Collection, Iterator
from typing import Any, Final

import numpy as np

from resources.errors import MlassetsError

TREES: Final = frozenset(
    ("sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor")
)
"""What scikit-learn's trees hold that skops does not trust by itself; every one is looked into when it is loaded."""

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


class UntrustedModel(MlassetsError):
    """A model file holds something that is not on the allow-list, or is damaged."""


def dump_estimator(
    estimator: Any, trusted: Collection[str] = TREES, *, only: bool = False, remedy: str = ""
) -> bytes:
    """Return an estimator as the bytes of a skops file.

    skops names objects by their address in memory and stamps the time; both are replaced, so that equal estimators
    give equal bytes in any process.

    Args:
        estimator: The estimator, fitted or not.
        trusted: Types that it may hold, by their full names.
        only: Whether it may hold nothing else; otherwise what skops trusts (scikit-learn's estimators, and the numpy
            and scipy types within them) is allowed too.
        remedy: What to do about a type that is not allowed.

    Raises:
        UntrustedModel: If the estimator holds a type that `load_estimator` would refuse.
    """
    import skops.io

    source = skops.io.dumps(estimator)
    with zipfile.ZipFile(io.BytesIO(source)) as archive:
        schema = json.loads(archive.read("schema.json"))
        _refuse_untrusted(source, schema, trusted, only, remedy)
        members = {name: archive.read(name) for name in archive.namelist() if name != "schema.json"}
    numbers: dict[str, int] = {}
    _renumber(schema, numbers)
    renamed = {_renamed(name, numbers): content for name, content in members.items()}
    renamed["schema.json"] = json.dumps(schema, separators=(",", ":"), sort_keys=False).encode()
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name in sorted(renamed):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system = 3
            archive.writestr(entry, renamed[name], compress_type=zipfile.ZIP_DEFLATED, compresslevel=6)
    return sink.getvalue()


def load_estimator(
    data: bytes, trusted: Collection[str] = TREES, *, only: bool = False, remedy: str = ""
) -> Any:
    """Return the estimator of a skops file, if it holds nothing but types on the allow-list.

    The caller has compared the bytes with the hash in the manifest; this looks at what is in them. The arguments are
    those of `dump_estimator`.

    Raises:
        UntrustedModel: If the file is damaged, holds any other type, or holds a tree that points outside itself.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            schema = json.loads(archive.read("schema.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError) as error:
        raise UntrustedModel(
            f"the model file cannot be read as a skops file ({error}); fetch it again or train the model anew."
        ) from error
    try:
        _refuse_untrusted(data, schema, trusted, only, remedy)
        estimator = skops.io.loads(data, trusted=sorted(trusted))
    except UntrustedTypesFoundException as error:
        raise UntrustedModel(_refusal([str(error)], remedy)) from error
    except (ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise UntrustedModel(
            f"the model file is damaged ({type(error).__name__}: {error}); fetch it again or train the model anew."
        ) from error
    _check_trees(estimator)
    return estimator


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON document, parents first, in the order of the file."""
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(reversed(item.values()))
        elif isinstance(item, list):
            waiting.extend(reversed(item))


def _refuse_untrusted(data: bytes, schema: Any, trusted: Collection[str], only: bool, remedy: str) -> None:
    import skops.io

    if only:
        found = {
            f"{node['__module__']}.{node['__class__']}" for node in _nodes(schema) if "__class__" in node
        }
    else:
        found = set(skops.io.get_untrusted_types(data=data))
    if unknown := sorted(found - set(trusted)):
        raise UntrustedModel(_refusal(unknown, remedy))


def _refusal(types: list[str], remedy: str) -> str:
    return f"the model holds types that are not on the allow-list: {', '.join(types)}. {remedy}".rstrip()


def _renumber(schema: Any, numbers: dict[str, int]) -> None:
    for node in _nodes(schema):
        if "__id__" in node:
            node["__id__"] = numbers.setdefault(str(node["__id__"]), len(numbers) + 1)
        if isinstance(node.get("file"), str):
            node["file"] = _renamed(node["file"], numbers)


def _renamed(name: str, numbers: dict[str, int]) -> str:
    stem, _, suffix = name.partition(".")
    return f"{numbers.setdefault(stem, len(numbers) + 1)}.{suffix}"


def _check_trees(estimator: Any) -> None:
    """Refuse trees whose nodes point outside the tree or its features, however deep in the estimator they are.

    scikit-learn follows these numbers without looking (https://github.com/scikit-learn/scikit-learn/pull/34558), so a
    forged file could make a prediction read foreign memory.
    """
    seen: set[int] = set()
    waiting = [(estimator, 0)]
    while waiting:
        item, features = waiting.pop()
        if id(item) in seen or isinstance(item, (str, bytes, int, float, type, type(None))):
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            waiting.extend((value, features) for value in item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            waiting.extend((value, features) for value in item)
        elif isinstance(item, np.ndarray):
            if item.dtype == object:
                waiting.extend((value, features) for value in item.flat)
        elif type(item).__name__ == "TreePredictor":
            _check_predictor(item, features)
        elif type(item).__name__ == "Tree":
            inner = item.children_left != -1
            children = np.concatenate([item.children_left[inner], item.children_right[inner]])
            _check_tree(children, item.feature[inner], item.node_count, item.n_features)
        elif hasattr(item, "__dict__"):
            features = getattr(item, "n_features_in_", features)
            waiting.extend((value, features) for value in vars(item).values())


def _check_predictor(predictor: Any, features: int) -> None:
    nodes = predictor.nodes
    inner = nodes[nodes["is_leaf"] == 0]
    _check_tree(np.concatenate([inner["left"], inner["right"]]), inner["feature_idx"], len(nodes), features)
    sets = inner["bitset_idx"][inner["is_categorical"] != 0]
    if len(sets) and sets.max() >= min(
        len(predictor.raw_left_cat_bitsets), len(predictor.binned_left_cat_bitsets)
    ):
        raise UntrustedModel(
            "the model file holds a categorical tree split that points outside its categories; it was changed after "
            "it was written. It was not loaded."
        )


def _check_tree(children: Any, used: Any, nodes: int, features: int) -> None:
    inside = (children > 0) & (children < nodes)
    if nodes == 0 or not inside.all() or not ((used >= 0) & (used < features)).all():
        raise UntrustedModel(
            "the model file holds a decision tree that points outside itself; it was changed after it was written. "
            "It was not loaded."
        )
