"""Consumes a profile's section `tuning`, produces how the best parameters of a learner are searched for, and where."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT


@dataclass(frozen=True, config=STRICT)
class ParameterConfig:
    """What a parameter may be: a number from `low` to `high`, a whole one, or one of `choices`.

    log: as many values are tried between 0.01 and 0.1 as between 0.1 and 1.
    """

    kind: Literal["float", "int", "choice"] = "float"
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True, config=STRICT)
class TuningConfig:
    """How parameters are searched for; `training.max_evals` and `training.use_optuna` belong to it as well.

    sampler: what proposes parameters. Without Optuna, `tpe` becomes `grid`, with a notice.
    pruner: what ends trials early that do worse than others did by the same round.
    slots: trials at once, of all targets; 0 takes all task slots that are free.
    timeout_s: seconds after which no more trials of a target are dealt; 0 sets no limit. Targets share the slots.
    folds: 1 learns on the train period and is judged by the tune period; more are rolling-origin folds over both, of
        `split.tune` of the rows each.
    sample_rows: most rows that a trial learns from, drawn by a hash of `row_id`; what judges it is always whole.
    screen_rows: rows from which new parameters are learned first, where there are at least twice as many; one in six is
        then tried on all rows. A trial on a part of them counts as that part of one in `training.max_evals`. Only where
        a part of the rows ranks parameters as all rows do; 0 screens nothing.
    thrift: proposals for each trial, of which the one is tried that is likely to take the least time; 1 takes them as
        they come. Of a grid, all points are tried.
    warm_start: begin with the parameters as they are without tuning, so that the best is no worse on the same rows;
        where the sampler learns from trials, boosters go on with deeper and with shallower trees.
    seed: of what is proposed.
    space: parameter -> what it may be, over the engine's own space; null takes one out of it.
    """

    sampler: Literal["tpe", "random", "grid", "hyperopt"] = "tpe"
    pruner: Literal["median", "hyperband", "none"] = "median"
    slots: Annotated[int, Field(ge=0, le=10_000)] = 0
    timeout_s: Annotated[float, Field(ge=0)] = 0.0
    folds: Annotated[int, Field(ge=1, le=50)] = 1
    sample_rows: Annotated[int, Field(ge=100)] = 1_000_000
    screen_rows: Annotated[int, Field(ge=0)] = 0
    thrift: Annotated[int, Field(ge=1, le=50)] = 4
    warm_start: bool = True
    seed: int = 7
    space: dict[str, ParameterConfig | None] = Field(default_factory=dict)
