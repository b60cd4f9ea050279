"""Consumes feature flows, produces an LSTM or a GRU: PyTorch over one barrier stage, steps shared by all ranks.

Each rank holds its share as float32, on the GPU where it has one. Every step is one of all ranks together, so several
ranks learn what one would, but for the rounding of sums and for which units dropout leaves out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from assay.errors import ConfigError
from assay.model.encoding import Encoding
from assay.model.neural import Neural
from assay.model.neural_inputs import Floats
from assay.model.outcome import Kind
from assay.model.row_sample import ROW
from assay.runtime.barrier import Batches, RankContext
from assay.runtime.plane import Plane
from assay.runtime.signals import Address, Sender, Shelf, listen
from assay.training.engine import FitRequest, FitResult, OnRound, Teaching, hearing
from assay.training.learner_params import NeuralParams, resolve
from assay.training.learner_rows import RowReader
from assay.training.neural_epochs import REFIT, TRAIN, Course, Examples, Progress, learn
from assay.training.neural_group import Group, joined
from assay.training.neural_inputs import arranged, by_feature, fitted
from assay.training.neural_network import arrays_of, network, tensors
from assay.training.weights import Weights

EXPLAINED_ROWS = 1024  # of all ranks together, from which the worth of inputs is taken


class NeuralEngine:
    """A recurrent network over the past of each row, with early stopping on the later tune period."""

    columns: tuple[str, ...] = (ROW,)
    alone = False
    kinds: tuple[Kind, ...] = ("value",)

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, plane: Plane, request: FitRequest, on_round: OnRound) -> FitResult:
        """One barrier stage of `request.ranks` ranks; live epochs come back over a socket while it runs.

        Raises:
            ConfigError: PyTorch is not installed; a parameter is wrong; no input is a window.
        """
        params: NeuralParams = resolve(self.name, request.params)
        if importlib.util.find_spec("torch") is None:
            raise no_torch(self.name)
        arranged(self.name, request.encoding, request.scale, params)

        with listen(request.driver_host, hearing(on_round), Shelf()) as address:
            task = NeuralTask.of(
                request,
                cell=self.name,
                params=params,
                epochs=min(request.rounds, params.epochs),
                patience=min(request.early_stopping_rounds, params.patience),
                seed=request.seed,
                threads=request.threads,
                checkpoints=request.checkpoint_rounds > 0,
                address=address,
            )
            results = plane.train(request.flows, task, request.ranks)
        first = results[0]
        return FitResult(
            stored=first["network"],
            rounds=first["epochs"],
            history=first["history"],
            devices=tuple(result["device"] for result in results),
        )


def no_torch(engine: str) -> ConfigError:
    """What is said where PyTorch is missing."""
    return ConfigError(
        f"engine.name={engine} learns with PyTorch, which is not installed: pip install 'assay[neural]', for executors "
        "too, or ASSAY_EXTRAS=neural ./spark-submit.sh ...; or choose another engine.name"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeuralTask(Teaching):
    """What one rank does. Runs on an executor. checkpoints: whether rank 0 leaves one with the driver each epoch."""

    cell: str
    params: NeuralParams
    epochs: int
    patience: int
    seed: int
    threads: int
    checkpoints: bool
    address: Address | None

    def __call__(self, context: RankContext, shares: list[Batches]) -> dict[str, Any]:
        """Train; rank 0 returns the network, all return where they ran."""
        try:
            import torch
        except ImportError:
            raise no_torch(self.cell) from None
        torch.set_num_threads(self.threads)
        device = device_of(context, self.params.device)
        sender = Sender(self.address) if context.rank == 0 and self.address is not None else None
        with contextlib.closing(sender) if sender is not None else contextlib.nullcontext(), joined(context) as group:
            return self._train(shares, device, sender, group)

    def _train(self, shares: list[Batches], device: str, sender: Sender | None, group: Group) -> dict[str, Any]:
        keep, report = _messages(sender, self.checkpoints)
        stored = sender.newest() if sender is not None and self.checkpoints else b""
        start = Progress.from_bytes(group.of_first(stored) if self.checkpoints else b"")
        network = b""
        if start.phase == TRAIN:
            start, network = self._chosen(shares, device, group, start, keep, report)
        if self.refit and len(shares) > 1:
            if keep is not None and not start.done:
                keep(start)
            both = _Fit(self, *self.again(shares), device, group)
            learn(both.network, both.examples, None, both.course(start.chosen, 0), group, start, keep=keep)
            network = both.stored()
        return {"network": network, "epochs": start.chosen, "history": dict(start.history), "device": device}

    def _chosen(
        self, shares: list[Batches], device: str, group: Group, start: Progress, keep: Keep | None, report: Tell | None
    ) -> tuple[Progress, bytes]:
        """Learn from train, judged by tune: where the fit on both begins, and the network as it is without that."""
        fit = _Fit(self, shares[:1], self.encoding, self.weights, device, group)
        later = fit.judge(shares[1:], self.encoding) if len(shares) > 1 else None
        course = fit.course(self.epochs, self.patience if later is not None else 0)
        ended = learn(fit.network, fit.examples, later, course, group, start, keep=keep, report=report)
        network = b"" if self.refit and later is not None else fit.stored()
        return Progress(REFIT, history=ended.history, chosen=ended.chosen), network


Keep = Callable[[Progress], None]
Tell = Callable[[int, Mapping[str, float]], None]


def _messages(sender: Sender | None, checkpoints: bool) -> tuple[Keep | None, Tell | None]:
    """What takes a rank's checkpoints and epochs; None on all ranks but the one that talks to the driver."""
    if sender is None:
        return None, None
    keep: Keep = lambda progress: sender.keep(progress.order, progress.to_bytes())  # noqa: E731
    return keep if checkpoints else None, lambda number, figures: sender.send(round=number, metrics=dict(figures))


class _Fit:
    """One fit: rows of a period as inputs, scaled by themselves, and the network that is to learn from them."""

    def __init__(
        self,
        task: NeuralTask,
        shares: Sequence[Batches],
        encoding: Encoding,
        weights: Weights | None,
        device: str,
        group: Group,
    ) -> None:
        self.task, self.device, self.group = task, device, group
        self.features = len(encoding.features)
        hashes, rows = RowReader(task.cell, encoding, task.scale, weights).hashed(shares)
        blank = arranged(task.cell, encoding, task.scale, task.params)
        self.inputs, self.target = fitted(blank, rows, group, task.cell)
        self.examples = self._examples(hashes, rows)
        self.network = network(task.cell, self.inputs, task.params, task.seed).to(device)

    def judge(self, shares: Sequence[Batches], encoding: Encoding) -> Examples:
        """The later period, on the same scale."""
        return self._examples(*RowReader(self.task.cell, encoding, self.task.scale).hashed(shares))

    def course(self, epochs: int, patience: int) -> Course:
        """How the training goes."""
        width = self.target.divisor
        return Course(self.task.cell, self.task.params, epochs, patience, self.task.seed, width)

    def worth(self) -> Floats:
        """How much the standardised target moves with each feature (features,): the mean of |gradient * input|."""
        import torch

        count = min(len(self.examples), -(-EXPLAINED_ROWS // self.group.ranks))
        given = {name: tensor[:count] for name, tensor in self.examples.inputs.items()}
        sums = np.zeros(self.features + 1)
        if count:
            self.network.train()  # cuDNN has gradients of recurrent layers in training alone
            embedded = [part.detach().requires_grad_() for part in self.network.embedded(given["codes"])]
            window, numbers = (given[name].clone().requires_grad_() for name in ("window", "numbers"))
            dropout, self.network.dropout = self.network.dropout, 0.0
            found = self.network(window, numbers, embedded, given["spread"], None).sum()
            self.network.dropout = dropout
            slopes = torch.autograd.grad(found, [window, numbers, *embedded])
            values = [window.nan_to_num(0.0), numbers, *(part - part.mean(0) for part in embedded)]
            moved = [
                (slope * value).detach().double().abs().sum(0).cpu().numpy()
                for slope, value in zip(slopes, values, strict=True)
            ]
            categories = np.array([part.sum() for part in moved[2:]])
            sums[:-1] = by_feature(self.inputs, self.features, moved[0], moved[1], categories)
            sums[-1] = count
        sums = self.group.sum(sums)
        return np.asarray(sums[:-1] / max(sums[-1], 1.0))

    def stored(self) -> bytes:
        """The network as it is now, as bytes; of rank 0 alone."""
        worth, weights, target = self.worth(), arrays_of(self.network), self.target
        if self.group.rank:
            return b""
        return Neural(self.task.cell, self.inputs, weights, target.centre, target.width, worth).store()

    def _examples(self, hashes: Any, rows: Any) -> Examples:
        import torch

        target = ((rows.target - self.target.centre) / self.target.divisor).astype(np.float32)
        return Examples(
            tensors(self.inputs.apply(rows.matrix), self.device),
            torch.from_numpy(target).to(self.device),
            torch.from_numpy(rows.weight.astype(np.float32)).to(self.device),
            hashes,
        )


def device_of(context: RankContext, wanted: str) -> str:
    """Where a rank computes: the GPU that Spark gave to its task, else one that PyTorch finds, else the CPU."""
    import torch

    if wanted == "cpu":
        return "cpu"
    if context.gpus:
        return f"cuda:{context.gpus[0]}"
    if torch.cuda.is_available():
        return f"cuda:{context.rank % torch.cuda.device_count()}"
    if wanted == "cuda":
        raise ConfigError("engine.params.device=cuda: PyTorch finds no GPU; set it to auto or cpu")
    return "cpu"
