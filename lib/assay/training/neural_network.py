"""Consumes the shape of a network's inputs, produces the network in PyTorch, and its weights as arrays and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.model.neural_inputs import Floats32, NeuralInputs, Taken
from assay.training.learner_params import NeuralParams

SMALL = 0.1  # spread of what stands for a category at first


def network(cell: str, inputs: NeuralInputs, params: NeuralParams, seed: int) -> Any:
    """A `torch.nn.Module` whose forward takes (window, numbers, embedded categories, spread, dropout's generator).

    Recurrent layers read the window with a flag for each missing value. Their last state, the window itself, numbers
    and categories go to a dense layer of rectified units and, beside it, straight to the two outputs a and b: a linear
    autoregression that the rest improves on (Lai and others, 2018, "Modeling long- and short-term temporal patterns").
    The standardised target is a + spread * b.
    """
    import torch
    from torch import nn

    channels, lookback = inputs.window.shape
    sizes = [min(params.embedding, math.ceil(math.sqrt(int(known) + 1))) for known in inputs.known]
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]

    class Network(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dropout = params.dropout
            widths = [2 * channels, *[params.hidden] * (params.layers - 1)]
            self.cells = nn.ModuleList(kind(width, params.hidden, batch_first=True) for width in widths)
            self.embeddings = nn.ModuleList(
                nn.Embedding(int(known) + 1, size) for known, size in zip(inputs.known, sizes, strict=True)
            )
            joined = params.hidden + lookback * channels + inputs.width_of_numbers + sum(sizes)
            self.first = nn.Linear(joined, params.hidden)
            self.second = nn.Linear(params.hidden, 2)
            self.direct = nn.Linear(joined, 2, bias=False)

        def embedded(self, codes: Any) -> list[Any]:
            return [table(codes[:, i]) for i, table in enumerate(self.embeddings)]

        def forward(self, window: Any, numbers: Any, embedded: Sequence[Any], spread: Any, generator: Any) -> Any:
            missing = torch.isnan(window)
            window = torch.where(missing, torch.zeros_like(window), window)
            state = torch.cat([window, missing.to(window.dtype)], dim=2)
            for layer in self.cells:
                state = self._dropped(layer(state)[0], generator)
            joined = torch.cat([state[:, -1], window.flatten(1), numbers, *embedded], dim=1)
            hidden = self._dropped(torch.relu(self.first(joined)), generator)
            both = self.second(hidden) + self.direct(joined)
            return both[:, 0] + spread * both[:, 1]

        def _dropped(self, values: Any, generator: Any) -> Any:
            """Units left out at random by a generator of the training's own, so that equal seeds drop equal ones."""
            if not self.training or not self.dropout:
                return values
            kept = torch.rand(values.shape, generator=generator, device=values.device) >= self.dropout
            return values * kept / (1 - self.dropout)

    made = Network()
    _initialise(made, params.hidden, seed)
    return made


def _initialise(made: Any, hidden: int, seed: int) -> None:
    """Uniform within 1 / sqrt(inputs), as PyTorch does; LSTMs remember at first (Jozefowicz and others, 2015)."""
    import torch

    random = np.random.default_rng(seed)
    for name, weight in made.named_parameters():
        values = random.uniform(-1, 1, tuple(weight.shape))
        if name.startswith("embeddings"):
            values *= SMALL
            values[0] = 0.0  # missing and unseen, where training has none
        elif name.startswith("direct"):
            values *= 0.0
        elif name.startswith("cells"):
            values /= math.sqrt(hidden)
            if "bias_ih" in name and len(values) == 4 * hidden:
                values[hidden : 2 * hidden] = 1.0
        else:
            values /= math.sqrt(made.first.in_features if name.startswith("first") else hidden)
        with torch.no_grad():
            weight.copy_(torch.from_numpy(values.astype(np.float32)))


def arrays_of(made: Any) -> dict[str, Floats32]:
    """Name -> weights."""
    return {name: weight.detach().cpu().numpy().copy() for name, weight in made.named_parameters()}


def tensors(taken: Taken, device: str) -> dict[str, Any]:
    """A rank's inputs on its device."""
    import torch

    found = {name: getattr(taken, name) for name in ("window", "numbers", "codes", "spread")}
    return {name: torch.from_numpy(array).to(device) for name, array in found.items()}
