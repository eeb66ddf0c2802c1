"""Runs those of deepchecks' NLP checks that need nothing from the internet, on texts, properties and vectors of ours.

Texts are given with their properties, and vectors where a check compares vectors, so that deepchecks computes neither:
its own properties and embeddings fetch corpora and models. Nothing is drawn by deepchecks either: its pictures of texts
need umap, or put the texts into them as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlassets.quality import deepchecks_compat
from mlassets.quality.deepchecks_adapter import quiet_and_seeded
from mlassets.quality.judging import DoesNotApply

_AS_WRITTEN = {"remove_stopwords": False}

RUNNING: Mapping[str, Mapping[str, Any]] = {
    "TextPropertyOutliers": {},
    "TextDuplicates": _AS_WRITTEN,
    "SpecialCharacters": {},
    "FrequentSubstrings": {},
    "ConflictingLabels": _AS_WRITTEN,
    "PropertyLabelCorrelation": {},
    "UnderAnnotatedPropertySegments": {},
    "PropertyDrift": {"min_samples": 1},
    "TextEmbeddingsDrift": {"dimension_reduction_method": "PCA"},
    "TrainTestSamplesMix": _AS_WRITTEN,
    "LabelDrift": {"min_samples": 1},
}
"""Checks that run offline, each with the options that keep it so: lists of stop words would be fetched."""

NOT_RUNNING: Mapping[str, str] = {
    "UnknownTokens": "it needs the tokenizer of a language model, and the packaged one knows every byte",
    "UnderAnnotatedMetaDataSegments": "it slices by columns beside the text, which the tabular checks look at",
    "SingleDatasetPerformance": "it judges the predictions of a text classifier, which no model of a project is",
    "ConfusionMatrixReport": "it judges the predictions of a text classifier, which no model of a project is",
    "TrainTestPerformance": "it judges the predictions of a text classifier, which no model of a project is",
    "PredictionDrift": "it judges the predictions of a text classifier, which no model of a project is",
    "PropertySegmentsPerformance": "it judges the predictions of a text classifier, which no model of a project is",
    "MetadataSegmentsPerformance": "it judges the predictions of a text classifier, which no model of a project is",
}
"""The other checks, each with why it is not asked."""


@dataclass(frozen=True)
class TextSide:
    """Texts as deepchecks is given them.

    Attributes:
        texts: The texts, none of them null.
        properties: A pandas frame, a row for each text; columns of type object are categories.
        labels: What each text is labelled with, if anything.
        vectors: A row for each text, if they are embedded.
    """

    texts: Sequence[str]
    properties: Any
    labels: Sequence[str | None] | None = None
    vectors: Any = None


def run_text_check(name: str, texts: TextSide, before: TextSide | None = None, *, seed: int = 0) -> Any:
    """Return the value of one of deepchecks' NLP checks.

    Args:
        name: One of `RUNNING`.
        texts: The texts to judge.
        before: For a check of drift or overlap: the texts to compare them with.
        seed: Seed of whatever the check draws.

    Raises:
        DoesNotApply: If deepchecks finds the texts too few, or the check to be about something else.
    """
    nlp = deepchecks_compat.load_nlp()
    from deepchecks.core import errors
    from deepchecks.nlp import checks

    options = dict(RUNNING[name])
    kind = getattr(checks, name)
    if "random_state" in kind.__init__.__code__.co_varnames:
        options["random_state"] = seed
    # deepchecks compares test with train, and judges a single set as train.
    sides = [_data(one, nlp) for one in ([texts] if before is None else [before, texts])]
    try:
        with quiet_and_seeded(seed):
            return kind(**options).run(*sides, with_display=False).value
    except (errors.NotEnoughSamplesError, errors.DeepchecksNotSupportedError) as error:
        raise DoesNotApply(str(error).rstrip("."), len(texts.texts)) from error


def _data(side: TextSide, nlp: Any) -> Any:
    data = nlp.TextData(
        list(side.texts),
        label=None if side.labels is None else list(side.labels),
        task_type="other" if side.labels is None else "text_classification",
    )
    data.set_properties(
        side.properties,
        categorical_properties=[name for name, kind in side.properties.dtypes.items() if kind == "object"],
    )
    if side.vectors is not None:
        data.set_embeddings(side.vectors, verbose=False)
    return data
