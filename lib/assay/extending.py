"""Consumes nothing, produces the names that a module of extensions needs: engines, feature families, scores.

What each has to fulfil is a protocol: `Engine` or `MemoryEngine`; `PastFamily` or `RowFamily`; `ConformalScore`. A
module lists what it adds in its tuple `EXTENSIONS`; see `assay.extensions` for how it is found.
"""

from __future__ import annotations

from typing import Any, Protocol

from assay.conformal.scores import (
    ConformalScore,
    Floats,
    Forecast,
    Part,
    known_centre,
    one_column,
    outcomes,
    quantile_rows,
)
from assay.features.family import PastFamily, RowFamily, or_nan, past_feature
from assay.features.plan import OWN, Feature, FeaturePlan
from assay.features.timeline import DAY_US, Numbers, Timeline, days_us
from assay.model.arrays import from_bytes, to_bytes
from assay.model.encoding import Encoding, Matrix
from assay.model.learner_inputs import LearnerInputs
from assay.model.linear import Linear, load_linear
from assay.model.outcome import Kind, Outcome
from assay.model.predictors import Predictor
from assay.model.trees import Trees, load_trees, trees_of
from assay.training.engine import Engine, FitRequest, FitResult, OnRound
from assay.training.learner_inputs import fit_inputs
from assay.training.learner_rows import Rows
from assay.training.learners import Stored, tree_inputs

__all__ = [
    "DAY_US",
    "OWN",
    "ConformalScore",
    "Encoding",
    "Engine",
    "Feature",
    "FeaturePlan",
    "FitRequest",
    "FitResult",
    "Floats",
    "Forecast",
    "Kind",
    "LearnerInputs",
    "Linear",
    "Matrix",
    "MemoryEngine",
    "Numbers",
    "OnRound",
    "Outcome",
    "Part",
    "PastFamily",
    "Predictor",
    "RowFamily",
    "Rows",
    "Stored",
    "Timeline",
    "Trees",
    "days_us",
    "fit_inputs",
    "from_bytes",
    "known_centre",
    "load_linear",
    "load_trees",
    "one_column",
    "or_nan",
    "outcomes",
    "past_feature",
    "quantile_rows",
    "to_bytes",
    "tree_inputs",
    "trees_of",
]


class MemoryEngine(Protocol):
    """A learner that one task of the cluster fits in memory, on a sample drawn by a hash of `row_id`.

    kinds: of outcomes that it can predict.  An attribute `params` may be a dataclass of what `engine.params` may hold,
    with defaults, `sample_rows` the most rows that it learns from (100,000), and `space` what `tune` tries, the most
    telling parameters first, in the words of `tuning.space`: `{"alpha": {"low": 0.1, "high": 10, "log": True}}`.
    """

    name: str
    kinds: tuple[Kind, ...]

    def learn(
        self, rows: Rows, encoding: Encoding, params: Any, *, seed: int, threads: int, outcome: Outcome
    ) -> Stored:
        """Learn; what is returned has `store() -> bytes`, and no pickle in them. Equal rows give equal bytes."""
        ...

    def load(self, stored: bytes, threads: int) -> Predictor:
        """Read back what was stored."""
        ...
