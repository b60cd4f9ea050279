"""Consumes the section `ensemble` of a profile, produces an `EnsembleConfig`: who learns, and how they are combined."""

from __future__ import annotations

import typing
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT

Method = Literal["average", "voting", "weighted", "stacking", "dynamic_rmse", "dynamic_sharpe", "dynamic_log_loss"]
METHODS: tuple[Method, ...] = typing.get_args(Method)


@dataclass(frozen=True, config=STRICT)
class EnsembleConfig:
    """Several learners as one model, under `training.enable_advanced_ensemble`.

    members: name -> changes of the section `engine`; of a member with another engine than that section's, parameters
        start anew. A member that is called like an engine is one, unless it says otherwise. None at all: the
        section's own engine, and those of xgboost, catboost and linear that it is not. A target is left to those that
        can learn it.
    methods: ways to combine that are tried, where they are of such a target: dynamic_rmse and dynamic_sharpe of
        numbers, dynamic_log_loss of classes; quantiles have neither these nor stacking.
    folds: blocks of the train period that members predict without having seen them, each learning from all rows
        before; the tune period is one more such block. Combinations are fitted on these predictions.
    fold_share: of the train period's rows, what each block has about.
    choose_share: of all rows that members predict without having seen them, the latest, on which one is chosen; no
        combination is fitted on those.
    halflife_days: an error that is so much older counts half as much in dynamic weights.
    rows: most rows on which combinations are fitted and chosen, drawn by a hash of `row_id`; 40 bytes and more each on
        the driver, 8 more for each member's quantiles or probabilities.
    """

    members: dict[str, dict[str, Any]] = Field(default_factory=dict)
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = METHODS
    folds: Annotated[int, Field(ge=0, le=50)] = 2
    fold_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    choose_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    halflife_days: Annotated[float, Field(gt=0)] = 60.0
    rows: Annotated[int, Field(ge=100, le=10_000_000)] = 1_000_000
