"""Consumes a rank's inputs and how far a training got, produces weights: epochs that can be taken up again.

Which step of an epoch a row belongs to is a hash of its `row_id`, the seed and the epoch. So the rows of a step are the
same for any number of ranks: each computes the gradient of those it has, and their sum over ranks is that of all.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import AssayError
from assay.model.arrays import from_bytes, to_bytes
from assay.model.neural_inputs import Floats32
from assay.model.row_sample import row_hash
from assay.training.learner_params import NeuralParams
from assay.training.learner_rows import Hashes
from assay.training.neural_group import Group

TRAIN, REFIT = 0, 1
JUDGED_ROWS = 8192  # that are judged at once
SEED_STRIDE = 1_000_003
History = dict[str, list[float]]


def _nothing() -> Floats32:
    return np.zeros(0, np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Progress:
    """How far a training got.

    phase: TRAIN, or REFIT on train and tune together.  done: epochs of this phase.  history: figure -> value per epoch
    of TRAIN.  chosen: epochs that TRAIN chose, once it has ended.  weights, first, second: the network's weights and
    Adam's moments, each as one array; empty before the first epoch.  steps: that Adam took.  best: the weights of the
    best epoch so far.
    """

    phase: int = TRAIN
    done: int = 0
    history: History = dataclasses.field(default_factory=dict)
    chosen: int = 0
    steps: int = 0
    weights: Floats32 = dataclasses.field(default_factory=_nothing)
    first: Floats32 = dataclasses.field(default_factory=_nothing)
    second: Floats32 = dataclasses.field(default_factory=_nothing)
    best: Floats32 = dataclasses.field(default_factory=_nothing)

    @property
    def order(self) -> tuple[int, int]:
        """Higher is farther."""
        return self.phase, self.done

    def to_bytes(self) -> bytes:
        """As npz."""
        told = {name: getattr(self, name) for name in ("phase", "done", "history", "chosen", "steps")}
        arrays = {name: getattr(self, name) for name in ("weights", "first", "second", "best")}
        return to_bytes(told=np.array(json.dumps(told)), **arrays)

    @classmethod
    def from_bytes(cls, stored: bytes) -> Progress:
        """Read back `to_bytes`; of nothing, the beginning."""
        if not stored:
            return cls()
        arrays = from_bytes(stored)
        told: dict[str, Any] = json.loads(str(arrays.pop("told")))
        return cls(**{**told, **arrays})


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """A rank's rows on its device.

    inputs: tensors by name.  target: (n,) standardised.  weight: (n,).  hashes: (n,) of `row_id`.
    """

    inputs: Mapping[str, Any]
    target: Any
    weight: Any
    hashes: Hashes

    def __len__(self) -> int:
        return len(self.hashes)


@dataclasses.dataclass(frozen=True)
class Course:
    """How a training goes. patience: 0 for no early stopping.  width: of the target, which figures are told in."""

    engine: str
    params: NeuralParams
    epochs: int
    patience: int
    seed: int
    width: float


def learn(
    made: Any,
    train: Examples,
    tune: Examples | None,
    course: Course,
    group: Group,
    start: Progress,
    *,
    keep: Callable[[Progress], None] | None = None,
    report: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Progress:
    """Train a network from `start` to the last epoch, or to where early stopping ends it. Every rank calls this.

    keep: takes a checkpoint after each epoch but the last.  report: takes the number of an epoch and its figures.
    Returns where it ended, with the weights of the best epoch, of which there are `chosen`; these are in `made` too.

    Raises:
        AssayError: the error is no number any more.
    """
    import torch

    weights = list(made.parameters())
    device = str(weights[0].device)
    optimizer = torch.optim.AdamW(weights, lr=course.params.learning_rate, weight_decay=course.params.weight_decay)
    if start.done:
        _restore(made, optimizer, start)
    steps = max(1, math.ceil(group.sum(np.array([float(len(train))]))[0] / course.params.batch_size))
    history = {name: list(values) for name, values in start.history.items()} if start.phase == TRAIN else {}
    now = start
    for epoch in range(start.done, course.epochs):
        if _over(history, course.patience):
            break
        generator = torch.Generator(device).manual_seed((course.seed + SEED_STRIDE * epoch) * 64 + group.rank)
        made.train()
        squares, count = 0.0, 0.0
        for rows in dealt(train.hashes, steps, course.seed, epoch):
            error, weight = _step(made, optimizer, weights, train, torch.from_numpy(rows), course, group, generator)
            squares, count = squares + error, count + weight
        figures = {"train_rmse": course.width * math.sqrt(squares / count) if count else math.nan}
        if tune is not None:
            figures["tune_rmse"] = course.width * judged(made, tune, group)
        if not math.isfinite(figures["train_rmse"]):
            raise AssayError(
                f"engine {course.engine}: the error of epoch {epoch + 1} is no finite number; lower "
                f"engine.params.learning_rate={course.params.learning_rate:g}"
            )
        for name, value in figures.items():
            history.setdefault(name, []).append(value)
        best = now.best
        if tune is None or _best(history) == epoch + 1:
            best = _flat(weights)
        first, second = (_flat([optimizer.state[w][name] for w in weights]) for name in ("exp_avg", "exp_avg_sq"))
        now = dataclasses.replace(
            start,
            done=epoch + 1,
            history=history if start.phase == TRAIN else start.history,
            steps=int(optimizer.state[weights[0]]["step"]),
            weights=_flat(weights),
            first=first,
            second=second,
            best=best,
        )
        if keep is not None and epoch + 1 < course.epochs:
            keep(now)
        if report is not None:
            report(epoch, figures)
    _load(weights, now.best)
    chosen = _best(now.history) if start.phase == TRAIN else start.chosen
    return dataclasses.replace(now, chosen=chosen)


def dealt(hashes: Hashes, steps: int, seed: int, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
    """Positions of the rows of each of `steps` steps of an epoch, in an order that is theirs alone."""
    salt = row_hash(np.array([seed * SEED_STRIDE + epoch], dtype=np.int64))
    drawn = row_hash((hashes ^ salt).view(np.int64))
    order = np.argsort(drawn, kind="stable")
    step = ((drawn[order] >> np.uint64(32)) * np.uint64(steps)) >> np.uint64(32)
    ends = np.searchsorted(step, np.arange(steps + 1, dtype=np.uint64))
    for at in range(steps):
        yield order[ends[at] : ends[at + 1]]


def judged(made: Any, rows: Examples, group: Group) -> float:
    """Root mean squared error of all ranks' rows, of the standardised target; NaN where no rank has a row."""
    import torch

    made.eval()
    squares = 0.0
    with torch.inference_mode():
        for first in range(0, len(rows), JUDGED_ROWS):
            some = slice(first, first + JUDGED_ROWS)
            inputs = {name: tensor[some] for name, tensor in rows.inputs.items()}
            error = (outputs(made, inputs) - rows.target[some]).double()
            squares += float((error**2).sum())
    total, count = group.sum(np.array([squares, float(len(rows))]))
    return math.sqrt(total / count) if count else math.nan


def outputs(made: Any, inputs: Mapping[str, Any], generator: Any = None) -> Any:
    """The standardised target (n,)."""
    return made(inputs["window"], inputs["numbers"], made.embedded(inputs["codes"]), inputs["spread"], generator)


def _step(
    made: Any, optimizer: Any, weights: list[Any], train: Examples, rows: Any, course: Course, group: Group, random: Any
) -> tuple[float, float]:
    """One step of all ranks: (sum of weighted squared errors, sum of weights)."""
    import torch

    rows = rows.to(train.target.device)
    if len(rows):
        inputs = {name: tensor[rows] for name, tensor in train.inputs.items()}
        weight = train.weight[rows]
        loss = (weight * (outputs(made, inputs, random) - train.target[rows]) ** 2).sum()
        told = [*torch.autograd.grad(loss, weights), loss.detach(), weight.sum()]
    else:
        told = [*(torch.zeros_like(w) for w in weights), *torch.zeros(2, device=train.target.device)]
    if group.ranks > 1:
        flat = torch.cat([part.reshape(-1) for part in told]).cpu()
        told = list(group.sum_tensor(flat).to(train.target.device).split([part.numel() for part in told]))
    *gradients, loss, total = told
    if float(total) > 0:
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.view_as(weight) / total
        torch.nn.utils.clip_grad_norm_(weights, course.params.clip)
        optimizer.step()
    return float(loss), float(total)


def _best(history: Mapping[str, list[float]]) -> int:
    """Epochs up to the least error on tune; all of them where there is no tune."""
    if "tune_rmse" not in history:
        return len(history.get("train_rmse", []))
    return int(np.argmin(history["tune_rmse"])) + 1


def _over(history: Mapping[str, list[float]], patience: int) -> bool:
    return bool(patience and history.get("tune_rmse")) and len(history["tune_rmse"]) - _best(history) >= patience


def _flat(parts: list[Any]) -> Floats32:
    import torch

    return np.asarray(torch.cat([part.detach().reshape(-1) for part in parts]).cpu().numpy())


def _load(weights: list[Any], flat: Floats32) -> None:
    import torch

    if len(flat):
        given = torch.from_numpy(flat.copy()).to(weights[0].device)
        with torch.no_grad():
            for weight, part in zip(weights, given.split([w.numel() for w in weights]), strict=True):
                weight.copy_(part.view_as(weight))


def _restore(made: Any, optimizer: Any, start: Progress) -> None:
    import torch

    weights = list(made.parameters())
    _load(weights, start.weights)
    moments = [torch.from_numpy(array.copy()).to(weights[0].device) for array in (start.first, start.second)]
    sizes = [w.numel() for w in weights]
    for weight, first, second in zip(weights, *(m.split(sizes) for m in moments), strict=True):
        optimizer.state[weight] = {
            "step": torch.tensor(float(start.steps)),
            "exp_avg": first.view_as(weight).clone(),
            "exp_avg_sq": second.view_as(weight).clone(),
        }
