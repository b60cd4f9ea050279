"""Consumes feature flows, produces a logistic regression of all their rows: Newton's method over any number of ranks.

Each step goes over the shares once. Ranks add up losses, gradients and curvatures through Spark's barrier, in the order
of ranks, so that all of them take the same step, and the model is that of one rank but for rounding.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.errors import AssayError
from assay.model.arrays import from_bytes, to_bytes
from assay.model.learner_inputs import LearnerInputs
from assay.model.linear import Linear, shares_of
from assay.model.scale import Floats
from assay.runtime.barrier import Batches, RankContext
from assay.training.learner_rows import RowReader, Rows
from assay.training.linear_engine import BLOCK_ROWS, LinearTask

INTERCEPT = 1e-6  # penalty of intercepts, without which a class that always or never came would have none
CLOSE = 1e-10  # what a step must promise to be worth another pass
MOST_STEPS = 60
HALVINGS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogisticTask(LinearTask):
    """What one rank does. Runs on an executor."""

    alpha: float

    def __call__(self, context: RankContext, shares: list[Batches]) -> dict[str, Any]:
        """The model's bytes and its log loss on tune, the same on every rank."""
        reader = RowReader("linear", self.encoding, self.scale, self.weights)
        fitted = self.fitted(context, shares[:1], reader)
        found: dict[str, Any] = {"history": {}}
        if len(shares) > 1:
            loss, rows = self.judged(context, shares[1:], dataclasses.replace(reader, weights=None), fitted)
            found["history"] = {"tune_log_loss": [loss / rows]} if rows else {}
            if self.refit:
                again, encoding, weights = self.again(shares)
                fitted = self.fitted(context, again, RowReader("linear", encoding, self.scale, weights))
        return {**found, "stored": fitted.store()}

    def judged(
        self, context: RankContext, shares: Sequence[Batches], reader: RowReader, fitted: Linear
    ) -> tuple[float, float]:
        """Sum of the log losses of all ranks' rows, and how many there are."""
        loss, rows = 0.0, 0.0
        for part in reader.blocks(shares, BLOCK_ROWS):
            each = shares_of(fitted.levels(part.matrix))
            loss -= float(np.log(np.clip(each[_true(part)], 1e-15, 1)).sum())
            rows += len(part)
        loss, rows = (float(value) for value in self._added(context, np.array([loss, rows])))
        return loss, rows

    def fitted(self, context: RankContext, shares: Sequence[Batches], reader: RowReader) -> Linear:
        """The slopes with the least mean log loss + alpha / 2 * their squares."""
        inputs = self._inputs(context, shares, reader)
        classes = max(2, len(self.outcome.classes))
        columns = 1 if classes == 2 else classes
        size = len(inputs) + 1
        penalty = np.tile(np.append(np.full(size - 1, self.alpha), INTERCEPT), columns)
        beta, step, best = np.zeros(columns * size), np.zeros(columns * size), np.inf
        moments = np.zeros(2 * size)
        halved, taken = 0, 0
        while taken < MOST_STEPS:
            tried = beta + step
            found = self._added(context, self._sums(shares, reader, inputs, tried.reshape(columns, size)))
            weight = found[0]
            if not weight:
                raise AssayError("engine linear: no row teaches")
            loss = found[1] / weight + float(penalty @ tried**2) / 2
            if not loss <= best + CLOSE:
                halved += 1
                if halved > HALVINGS:
                    break
                step = step / 2
                continue
            gain, beta, best, halved = best - loss, tried, loss, 0
            moments = found[2 : 2 + 2 * size] / weight
            gradient = found[2 + 2 * size : 2 + 2 * size + len(beta)] / weight + penalty * beta
            curve = found[2 + 2 * size + len(beta) :].reshape(len(beta), len(beta)) / weight
            step = -np.linalg.solve(curve + np.diag(penalty), gradient)
            taken += 1
            if -float(gradient @ step) / 2 < CLOSE or (gain < CLOSE and taken > 1):
                break
        slopes = beta.reshape(columns, size)
        mean = moments[: size - 1]
        spread = np.sqrt(np.maximum(moments[size : 2 * size - 1] - mean**2, 0.0))
        intercept = slopes[:, -1]
        return Linear(
            inputs,
            slopes[0, :-1] if columns == 1 else slopes[:, :-1].T.copy(),
            float(intercept[0]) if columns == 1 else intercept.copy(),
            mean,
            spread,
            decides=True,
        )

    def _sums(self, shares: Sequence[Batches], reader: RowReader, inputs: LearnerInputs, slopes: Floats) -> Floats:
        """Of a share: weight, loss, moments of the inputs (first and second), gradient and curvature, in one array."""
        columns, size = slopes.shape
        total = np.zeros(2 + 2 * size)
        gradient, curve = np.zeros((columns, size)), np.zeros((columns, size, columns, size))
        for rows in reader.blocks(shares, BLOCK_ROWS):
            values = np.column_stack([inputs.apply(rows.matrix), np.ones(len(rows))])
            each = shares_of(values @ slopes.T if columns > 1 else (values @ slopes.T)[:, 0])
            total[0] += rows.weight.sum()
            total[1] -= rows.weight @ np.log(np.clip(each[_true(rows)], 1e-300, 1))
            total[2 : 2 + size] += rows.weight @ values
            total[2 + size :] += rows.weight @ values**2
            came = np.zeros(each.shape)
            came[_true(rows)] = 1
            first = each.shape[1] - columns  # of two classes the second one alone has slopes
            each, came = each[:, first:], came[:, first:]
            gradient += ((each - came) * rows.weight[:, None]).T @ values
            for one in range(columns):
                for other in range(one, columns):
                    share = each[:, one] * ((one == other) - each[:, other]) * rows.weight
                    curve[one, :, other] += values.T @ (share[:, None] * values)
        for one in range(columns):
            for other in range(one):
                curve[one, :, other] = curve[other, :, one].T
        return np.concatenate([total, gradient.ravel(), curve.ravel()])

    def _added(self, context: RankContext, mine: Floats) -> Floats:
        """Sums of all ranks, in their order."""
        texts = context.gather(base64.b64encode(to_bytes(sums=mine)).decode())
        parts = [from_bytes(base64.b64decode(text))["sums"] for text in texts]
        return np.asarray(sum(parts[1:], start=parts[0]))


def _true(rows: Rows) -> tuple[Any, Any]:
    """Where the class that came is, in (n, K)."""
    return np.arange(len(rows)), rows.target.astype(np.intp)
