"""Consumes feature flows, produces a linear model of all their rows: each rank makes a small triangle of its share.

Ranks go over their share twice: once for means, spreads and frequent categories, on which they agree through Spark's
barrier, and once for the triangle. scikit-learn then solves on the driver for as many rows as there are inputs.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.errors import AssayError, ConfigError
from assay.model.arrays import from_bytes, to_bytes
from assay.model.learner_inputs import LearnerInputs
from assay.model.linear import Linear
from assay.model.outcome import Kind, Outcome
from assay.model.scale import Floats
from assay.runtime.barrier import Batches, RankContext
from assay.runtime.plane import Plane
from assay.training.engine import FitRequest, FitResult, OnRound, Teaching
from assay.training.learner_inputs import category_weights, frequent, usable_spread
from assay.training.learner_params import LinearParams, resolve
from assay.training.learner_rows import RowReader
from assay.training.triangle import Triangle, together

BLOCK_ROWS = 8192


class LinearEngine:
    """Ridge regression, the elastic net and logistic regression, over any number of ranks and rows."""

    name = "linear"
    columns: tuple[str, ...] = ()
    alone = False
    kinds: tuple[Kind, ...] = ("value", "binary", "multiclass")

    def fit(self, plane: Plane, request: FitRequest, on_round: OnRound) -> FitResult:
        """One barrier stage of `request.ranks` ranks, and a small problem on the driver."""
        params: LinearParams = resolve(self.name, request.params)
        if request.outcome.decides:
            return self._decide(plane, request, params)
        task = LinearTask.of(request, max_categories=params.max_categories)
        parts = plane.train(request.flows, task, request.ranks)
        fitted = solve(parts[0]["inputs"], together([p["train"] for p in parts]), params)
        history = {}
        if request.tune is not None:
            history["tune_rmse"] = [together([p["tune"] for p in parts]).rmse(fitted.slopes, float(fitted.intercept))]
            if request.refit:
                fitted = solve(parts[0]["inputs_again"], together([p["again"] for p in parts]), params)
        return FitResult(stored=fitted.store(), rounds=1, history=history, devices=("cpu",) * len(parts))

    def _decide(self, plane: Plane, request: FitRequest, params: LinearParams) -> FitResult:
        """Logistic regression, in one barrier stage."""
        from assay.training.logistic import LogisticTask  # which stands on this module

        check_penalty(params, request.outcome)
        task = LogisticTask.of(request, max_categories=params.max_categories, alpha=params.alpha)
        parts = plane.train(request.flows, task, request.ranks)
        devices = ("cpu",) * len(parts)
        return FitResult(stored=parts[0]["stored"], rounds=1, history=parts[0]["history"], devices=devices)


def check_penalty(params: LinearParams, outcome: Outcome) -> None:
    """Refuse a penalty that classes do not have.

    Raises:
        ConfigError: a part of it is the lasso's.
    """
    if outcome.decides and params.l1_ratio:
        raise ConfigError(
            f"engine.params.l1_ratio={params.l1_ratio:g}: logistic regression (dataset.targets.task="
            f"{outcome.kind}) has the ridge's penalty alone here; leave it out"
        )


def solve(inputs: LearnerInputs, triangle: Triangle, params: LinearParams) -> Linear:
    """The slopes that scikit-learn finds for the triangle's rows, which have the squares and products of all rows."""
    from sklearn.linear_model import ElasticNet, Ridge

    if not triangle.weight:
        raise AssayError("engine linear: no row teaches")
    means, spreads, count = triangle.means, triangle.spreads, len(inputs)
    spread = usable_spread(float(spreads[-1]), float(means[-1]))
    slopes = np.zeros(count)
    if count and spread == spreads[-1]:
        # as many rows as there are; weighed so that their mean of squares is that of all rows
        rows = triangle.centred * np.sqrt(len(triangle.centred) / triangle.weight)
        if params.l1_ratio:
            model = ElasticNet(
                alpha=params.alpha,
                l1_ratio=params.l1_ratio,
                max_iter=params.max_iter,
                tol=1e-8,
                fit_intercept=False,
            )
        else:
            model = Ridge(alpha=params.alpha * len(rows), fit_intercept=False, solver="svd")
        model.fit(rows[:, :count], rows[:, count] / spread)
        slopes = model.coef_ * spread
    return Linear(inputs, slopes, float(means[-1] - means[:-1] @ slopes), means[:-1], spreads[:-1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearTask(Teaching):
    """What one rank does. Runs on an executor."""

    max_categories: int

    def __call__(self, context: RankContext, shares: list[Batches]) -> dict[str, Any]:
        """The inputs on which all ranks agree, and this rank's triangles."""
        reader = RowReader("linear", self.encoding, self.scale, self.weights)
        inputs = self._inputs(context, shares[:1], reader)
        found: dict[str, Any] = {"inputs": inputs, "train": _triangle(shares[:1], reader, inputs)}
        if len(shares) > 1:
            found["tune"] = _triangle(shares[1:], dataclasses.replace(reader, weights=None), inputs)
            if self.refit:
                again, encoding, weights = self.again(shares)
                reader = RowReader("linear", encoding, self.scale, weights)
                found["inputs_again"] = self._inputs(context, again, reader)
                found["again"] = _triangle(again, reader, found["inputs_again"])
        return found

    def _inputs(self, context: RankContext, shares: Sequence[Batches], reader: RowReader) -> LearnerInputs:
        """Missing numbers at the mean, numbers standardised, one input per category that is frequent over all ranks."""
        mine, encoding = _survey(shares, reader), reader.encoding
        texts = context.gather(base64.b64encode(to_bytes(**mine)).decode())
        surveys = [from_bytes(base64.b64decode(text)) for text in texts]
        _, mean, square = merged([(s["weight"], s["mean"], s["square"]) for s in surveys])
        total = sum(float(s["total"]) for s in surveys)
        spread = np.sqrt(square / total) if total else np.zeros(len(mean))  # missing ones, at the mean, add nothing
        usable = np.array([usable_spread(float(s), float(m)) for s, m in zip(spread, mean, strict=True)])
        numbers = len(encoding.numeric)
        counts = [np.sum([s[f"counts{i}"] for s in surveys], axis=0) for i in range(len(encoding.categories))]
        return LearnerInputs(mean, mean, usable, *frequent(counts, first=numbers, most=self.max_categories))


def _survey(shares: Sequence[Batches], reader: RowReader) -> dict[str, Any]:
    """Of a share: the weight of known numbers (p,), their mean and sum of squares about it; weights of categories.

    total: weight of all rows.
    """
    encoding = reader.encoding
    numbers = len(encoding.numeric)
    found: Parts = (np.zeros(numbers), np.zeros(numbers), np.zeros(numbers))
    counts, total = [np.zeros(len(known)) for known in encoding.categories.values()], 0.0
    for rows in reader.blocks(shares, BLOCK_ROWS):
        values = rows.matrix[:, :numbers].astype(np.float64)
        known = ~np.isnan(values)
        weight = (rows.weight[:, None] * known).sum(axis=0)
        values = np.where(known, values, 0.0)
        mean = (rows.weight[:, None] * values).sum(axis=0) / np.maximum(weight, np.finfo(float).tiny)
        square = (rows.weight[:, None] * np.where(known, values - mean, 0.0) ** 2).sum(axis=0)
        found = merged([found, (weight, mean, square)])
        total += float(rows.weight.sum())
        for i, codes in enumerate(rows.matrix[:, numbers:].T):
            counts[i] += category_weights(codes, rows.weight, len(counts[i]))
    weight, mean, square = found
    named = {f"counts{i}": count for i, count in enumerate(counts)}
    return {"weight": weight, "mean": mean, "square": square, "total": np.float64(total), **named}


def _triangle(shares: Sequence[Batches], reader: RowReader, inputs: LearnerInputs) -> Triangle:
    found = Triangle.empty(len(inputs))
    for rows in reader.blocks(shares, max(BLOCK_ROWS, 4 * len(inputs))):
        found = found.with_rows(inputs.apply(rows.matrix), rows.target, rows.weight)
    return found


Parts = tuple[Floats, Floats, Floats]


def merged(parts: Sequence[Parts]) -> Parts:
    """Weights, means and sums of squares about the mean of parts, each (p,) -> those of all (Chan et al., 1983)."""
    weight, mean, square = parts[0]
    for other, about, more in parts[1:]:
        both = weight + other
        share = other / np.where(both > 0, both, 1.0)
        step = about - mean
        mean, square, weight = mean + step * share, square + more + step**2 * weight * share, both
    return weight, mean, square
