import io
import json
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from mlassets.modelling.persistence import UntrustedModel, dump_estimator, load_estimator

X = np.random.default_rng(0).normal(size=(300, 3))
Y = (X[:, 0] > 0).astype(int)


def boosted() -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=5, random_state=0, early_stopping=False).fit(X, Y)


def with_schema(data: bytes, change) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(sink, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, change(content.decode()).encode() if name == "schema.json" else content)
    return sink.getvalue()


def test_equal_models_have_equal_bytes_and_predict_the_same_after_loading():
    first, second = boosted(), boosted()

    assert dump_estimator(first) == dump_estimator(second)
    loaded = load_estimator(dump_estimator(first))
    assert (loaded.predict_proba(X) == first.predict_proba(X)).all()
    assert dump_estimator(loaded) == dump_estimator(load_estimator(dump_estimator(loaded)))


def test_the_bytes_hold_neither_addresses_nor_the_time():
    with zipfile.ZipFile(io.BytesIO(dump_estimator(boosted()))) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        arrays = {name for name in archive.namelist() if name != "schema.json"}
        assert all(int(name.split(".")[0]) < 10_000 for name in arrays)


def test_a_type_off_the_allow_list_is_refused_by_name_when_loaded_and_when_stored():
    model = SVC().fit(X, Y)

    with pytest.raises(UntrustedModel, match=r"sklearn\.svm\._classes\.SVC"):
        load_estimator(skops.io.dumps(model))
    with pytest.raises(UntrustedModel, match=r"sklearn\.svm\._classes\.SVC"):
        dump_estimator(model)


def test_a_function_smuggled_into_a_trusted_type_is_refused():
    import os

    smuggled = skops.io.dumps(make_pipeline(FunctionTransformer(os.system), StandardScaler()))

    with pytest.raises(UntrustedModel, match=r"system"):
        load_estimator(smuggled)


def test_a_file_whose_type_was_exchanged_is_refused_and_nothing_runs(tmp_path):
    data = with_schema(
        dump_estimator(make_pipeline(StandardScaler()).fit(X)),
        lambda text: text.replace('"StandardScaler"', '"system"').replace(
            '"sklearn.preprocessing._data"', '"os"'
        ),
    )

    with pytest.raises(UntrustedModel, match=r"os\.system"):
        load_estimator(data)


@pytest.mark.parametrize("data", [b"", b"not a model", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_refused_in_words(data):
    with pytest.raises(UntrustedModel, match="cannot be read"):
        load_estimator(data)


def test_a_file_that_lost_an_array_is_refused_in_words():
    sink = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(dump_estimator(boosted()))) as source,
        zipfile.ZipFile(sink, "w") as target,
    ):
        target.writestr("schema.json", source.read("schema.json"))

    with pytest.raises(UntrustedModel, match="damaged"):
        load_estimator(sink.getvalue())


def test_a_tree_that_points_outside_itself_is_refused():
    model = boosted()
    model._predictors[0][0].nodes["left"][0] = 1_000_000

    with pytest.raises(UntrustedModel, match="points outside itself"):
        load_estimator(dump_estimator(model))


def test_a_pickle_is_not_a_model():
    import pickle

    with pytest.raises(UntrustedModel, match="cannot be read"):
        load_estimator(pickle.dumps(boosted()))


def test_the_schema_stays_a_skops_file():
    with zipfile.ZipFile(io.BytesIO(dump_estimator(boosted()))) as archive:
        assert json.loads(archive.read("schema.json"))["_skops_version"] == skops.__version__
