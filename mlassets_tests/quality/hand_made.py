"""A model written by hand; imports no Arrow, so that the old stack can use it too."""

from typing import Any

import numpy as np

from mlassets.quality.checks import Task


class HandMade:
    """A model whose coefficients are written down, so that it predicts the same on every version of scikit-learn."""

    def __init__(self, task: Task) -> None:
        self.task = task
        if task != "regression":
            self.classes_ = np.arange(2 if task == "binary" else 3)
        self._estimator_type = "regressor" if task == "regression" else "classifier"

    def _score(self, frame: Any) -> Any:
        return 0.9 * frame["size"].fillna(0).to_numpy() + 0.8 * (frame["colour"] == "red").to_numpy()

    def predict_proba(self, frame: Any) -> Any:
        """Return the probability of each class, from logistic steps at the targets' bounds."""
        above = [
            1 / (1 + np.exp(-3 * (self._score(frame) - bound)))
            for bound in ([0.3] if self.task == "binary" else [0.0, 1.0])
        ]
        if self.task == "binary":
            return np.column_stack([1 - above[0], above[0]])
        return np.column_stack([1 - above[0], above[0] - above[1], above[1]])

    def __getattribute__(self, name: str) -> Any:
        if name == "predict_proba" and object.__getattribute__(self, "task") == "regression":
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    def predict(self, frame: Any) -> Any:
        """Return the most probable class, or the score."""
        if self.task == "regression":
            return self._score(frame)
        return self.classes_[np.argmax(self.predict_proba(frame), axis=1)]

    def fit(self, *_: Any) -> "HandMade":
        """Return the model as it is: there is nothing to fit."""
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

        kind = RegressorMixin if self.task == "regression" else ClassifierMixin
        return type("Tagged", (kind, BaseEstimator), {})().__sklearn_tags__()
