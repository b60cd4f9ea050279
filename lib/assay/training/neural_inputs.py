"""Consumes names of inputs and training rows, produces how a recurrent network's inputs are made of them."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from assay.errors import AssayError, ConfigError
from assay.model.encoding import Encoding
from assay.model.neural_inputs import ZERO, Floats, NeuralInputs, blocks, signed_log
from assay.model.scale import TargetScale
from assay.training.learner_inputs import usable_spread
from assay.training.learner_params import NeuralParams
from assay.training.learner_rows import Rows
from assay.training.neural_group import Group

LAG = re.compile(r"^(?P<column>.+)__own__lag_(?P<lag>\d+)(?P<relative>__relative)?$")
OF_HISTORY = re.compile(r"^(?!calendar__).+__")  # the row's own attributes and calendar aside, all names have it
FARTHEST = 10.0  # spreads from the mean in which numbers are held, in training too


def arranged(engine: str, encoding: Encoding, scale: TargetScale, params: NeuralParams) -> NeuralInputs:
    """Which inputs make windows and which are plain numbers, still without anything fitted.

    A column's window is of its lags `horizon` to `horizon + lookback - 1`. Where a target has them relative to its last
    value, these are taken, and its levels are left out but for the last one.

    Raises:
        ConfigError: no column has all these lags; or it is forecast from the last value, farther ahead than that.
    """
    if params.horizon > 1 and scale.anchor is not None:
        raise ConfigError(
            f"engine.params.horizon={params.horizon}: the target is learned relative to its last value, which is "
            "nearer; leave it at 1 and set dataset.features.horizon_days, or drop relative_to of dataset.targets"
        )
    at = {name: position for position, name in enumerate(encoding.numeric)}
    lags: dict[str, dict[str, dict[int, int]]] = defaultdict(lambda: {"": {}, "__relative": {}})
    for name, position in at.items():
        if found := LAG.match(name):
            lags[found["column"]][found["relative"] or ""][int(found["lag"])] = position
    wanted = range(params.horizon + params.lookback - 1, params.horizon - 1, -1)
    windows: dict[str, list[int]] = {}
    used: set[int] = set()
    for column, kinds in lags.items():
        relative = {**kinds["__relative"], 1: ZERO} if kinds["__relative"] else {}
        for known in (relative, kinds[""]):
            if column not in windows and all(lag in known for lag in wanted):
                windows[column] = [known[lag] for lag in wanted]
                used |= {*known.values(), *(p for lag, p in kinds[""].items() if lag > 1)}
    if not windows:
        raise ConfigError(
            f"engine.name={engine} reads the last {params.lookback} values of each target and outcome, and no column "
            f"has its lags {wanted[-1]} to {wanted[0]} among the inputs: set dataset.features.lookback={wanted[0]}, "
            f"which builds them, or engine.params.lookback={params.lookback} to less"
        )
    all_of_it = params.history and params.horizon == 1
    plain = [
        position
        for name, position in at.items()
        if position not in used and (all_of_it or name == scale.anchor or not OF_HISTORY.match(name))
    ]
    count = len(plain) + 4 * len(windows)
    nothing, numbers = np.zeros(count), len(encoding.numeric)
    return NeuralInputs(
        window=np.array(list(windows.values()), np.int32),
        target=list(windows).index(scale.target) if scale.target in windows else -1,
        plain=np.array(plain, np.int32),
        categories=np.arange(numbers, numbers + len(encoding.categories), dtype=np.int32),
        known=np.array([len(known) for known in encoding.categories.values()], np.int32),
        centre=nothing,
        width=np.ones(count),
        low=nothing,
        high=nothing,
        flags=np.empty(0, np.int32),
        typical=0.0,
    )


@dataclasses.dataclass(frozen=True)
class TargetSpread:
    """Weighted mean and standard deviation of the target; a width of 0 is a target that never changes."""

    centre: float
    width: float

    @property
    def divisor(self) -> float:
        """What targets are divided by to learn them."""
        return self.width or 1.0


def fitted(inputs: NeuralInputs, rows: Rows, group: Group, engine: str) -> tuple[NeuralInputs, TargetSpread]:
    """Means, spreads and ranges over the rows of all ranks; every rank calls it with its own and gets the same."""
    channels = len(inputs.window)
    levels = np.empty((len(rows), 2 * channels))
    for here, block in blocks(rows.matrix):
        levels[here.start : here.stop] = inputs.normalised(block)[1][: len(here)]
    logs = signed_log(levels)

    def column(position: int) -> Floats:
        if position < len(inputs.plain):
            return rows.matrix[:, inputs.plain[position]].astype(np.float64)
        position -= len(inputs.plain)
        return levels[:, position] if position < levels.shape[1] else logs[:, position - levels.shape[1]]

    count = len(inputs.centre)
    centre, width = moments([partial(column, p) for p in range(count)], rows.weight, group)
    ends = np.full((2, count), -np.inf)
    missing = np.zeros(count)
    for position in range(count):
        values = column(position)
        known = values[~np.isnan(values)]
        missing[position] = len(known) < len(values)
        if len(known):
            ends[:, position] = -known.min(), known.max()
    ends, missing = group.greatest(ends), group.greatest(missing)
    seen = np.isfinite(ends[1])
    low = np.where(seen, np.clip((-ends[0] - centre) / width, -FARTHEST, 0.0), 0.0)
    high = np.where(seen, np.clip((ends[1] - centre) / width, 0.0, FARTHEST), 0.0)
    if not group.sum(np.array([len(rows)], np.float64))[0]:
        raise AssayError(f"engine {engine}: no row teaches")
    mean, spread = moments([lambda: rows.target], rows.weight, group)
    typical = 0.0
    if inputs.target >= 0:
        own = levels[:, channels + inputs.target]
        typical = float(moments([lambda: own], rows.weight, group)[0][0])
    ready = dataclasses.replace(
        inputs,
        centre=centre,
        width=width,
        low=low,
        high=high,
        flags=np.flatnonzero(missing[: len(inputs.plain)]).astype(np.int32),
        typical=typical,
    )
    away = np.array([np.abs(rows.target - mean[0]).max(initial=0.0)])
    changes = group.greatest(away)[0] > 1e-12 * abs(mean[0])
    return ready, TargetSpread(float(mean[0]), float(spread[0]) if changes else 0.0)


def moments(columns: Sequence[Callable[[], Floats]], weight: Floats, group: Group) -> tuple[Floats, Floats]:
    """Weighted mean and standard deviation (k,) of k columns over all ranks, each made when it is needed.

    Missing values take no part. A column without values has mean 0; one without spread has 1.
    """
    sums = np.zeros((2, len(columns)))
    for position, made in enumerate(columns):
        values = made()
        known = ~np.isnan(values)
        sums[:, position] = weight[known].sum(), (weight[known] * values[known]).sum()
    total, first = group.sum(sums)
    mean = first / np.where(total > 0, total, 1.0)
    squares = np.zeros(len(columns))
    for position, made in enumerate(columns):
        values = made()
        known = ~np.isnan(values)
        squares[position] = (weight[known] * (values[known] - mean[position]) ** 2).sum()
    spread = np.sqrt(group.sum(squares) / np.where(total > 0, total, 1.0))
    return mean, np.array([usable_spread(float(s), float(m)) for s, m in zip(spread, mean, strict=True)])


def by_feature(
    inputs: NeuralInputs, features: int, window: Floats, numbers: Floats, categories: Floats
) -> npt.NDArray[np.float64]:
    """Worth of a window's cells (lookback, channels), of numbers (q,) and categories (c,) -> of features (features,).

    What a window's mean and spread are worth counts for its newest value that is an input.
    """
    worth = np.zeros(features)
    for channel, positions in enumerate(inputs.window):
        there = positions != ZERO
        np.add.at(worth, positions[there], window[there, channel])
        level = numbers[len(inputs.plain) + channel : len(inputs.centre) : len(inputs.window)].sum()
        if there.any():
            worth[positions[there][-1]] += level
    np.add.at(worth, inputs.plain, numbers[: len(inputs.plain)])
    np.add.at(worth, inputs.plain[inputs.flags], numbers[len(inputs.centre) :])
    np.add.at(worth, inputs.categories, categories)
    return worth
