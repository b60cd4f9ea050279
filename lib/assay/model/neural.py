"""Consumes a stored LSTM or GRU, produces its predictions, in NumPy: where a model is served, PyTorch is not needed.

Rows go through the network in blocks of one size, so that a matrix product adds in one order and a row is predicted the
same, to the bit, alone and among others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.model.arrays import from_bytes, to_bytes
from assay.model.encoding import Matrix
from assay.model.neural_inputs import Floats, Floats32, NeuralInputs, Taken, blocks


@dataclasses.dataclass(frozen=True, eq=False)
class Neural:
    """A recurrent network over each row's window, joined with the row's other inputs.

    cell: lstm or gru.  weights: name -> array, named and laid out as in `training.neural_network`, float32.
    centre, width: of the target in training; predictions are centre + width * (a + spread * b), where a and b are the
    network's two outputs and spread is that of the row's own window.
    worth: (features,) how much the output moves with each input in training.
    """

    cell: str
    inputs: NeuralInputs
    weights: Mapping[str, Floats32]
    centre: float
    width: float
    worth: Floats

    def predict(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n,)."""
        result = np.empty(len(matrix))
        for rows, block in blocks(matrix):
            found = self.outputs(self.inputs.apply(block))[: len(rows)]
            result[rows.start : rows.stop] = self.centre + self.width * found.astype(np.float64)
        return result

    def outputs(self, taken: Taken) -> Floats32:
        """Inputs of a block of rows -> (n,), the standardised target."""
        w = self.weights
        missing = np.isnan(taken.window)
        window = np.where(missing, np.float32(0), taken.window)
        steps = np.concatenate([window, missing.astype(np.float32)], axis=2)
        state = steps
        for layer in range(sum(name.endswith(".weight_hh_l0") for name in w)):
            named = {part: w[f"cells.{layer}.{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
            state = _STEPS[self.cell](state, **named)
        embedded = [w[f"embeddings.{i}.weight"][taken.codes[:, i]] for i in range(taken.codes.shape[1])]
        joined = np.concatenate(
            [state[:, -1], window.reshape(len(window), -1), taken.numbers, *embedded], axis=1, dtype=np.float32
        )
        hidden = np.maximum(joined @ w["first.weight"].T + w["first.bias"], np.float32(0))
        both = hidden @ w["second.weight"].T + w["second.bias"] + joined @ w["direct.weight"].T
        return np.asarray(both[:, 0] + taken.spread * both[:, 1], dtype=np.float32)

    def importance(self) -> dict[int, float]:
        """How much the standardised target moves with each input, on average (gradient times input)."""
        return {int(position): float(self.worth[position]) for position in np.flatnonzero(self.worth > 0)}

    def store(self) -> bytes:
        """As npz."""
        return to_bytes(
            **self.inputs.arrays(),
            **{f"weights.{name}": array for name, array in self.weights.items()},
            cell=np.array(self.cell),
            centre=np.float64(self.centre),
            width=np.float64(self.width),
            worth=self.worth,
        )


def load_neural(stored: bytes, _: int = 1) -> Neural:
    """Read back `Neural.store`."""
    arrays = from_bytes(stored)
    prefix = "weights."
    weights = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    told: dict[str, Any] = {name: float(arrays[name]) for name in ("centre", "width")}
    return Neural(str(arrays["cell"]), NeuralInputs.of(arrays), weights, worth=arrays["worth"], **told)


def _sigmoid(values: Floats32) -> Floats32:
    return np.asarray(np.float32(0.5) * np.tanh(np.float32(0.5) * values) + np.float32(0.5))


def lstm_states(
    steps: Floats32, weight_ih: Floats32, weight_hh: Floats32, bias_ih: Floats32, bias_hh: Floats32
) -> Floats32:
    """States (n, steps, hidden) of an LSTM over inputs (n, steps, k); gates are input, forget, cell, output.

    Hochreiter and Schmidhuber (1997), with the forget gate of Gers and others (2000), in PyTorch's layout.
    """
    hidden = weight_hh.shape[1]
    state = cell = np.zeros((len(steps), hidden), np.float32)
    states = np.empty((len(steps), steps.shape[1], hidden), np.float32)
    for step in range(steps.shape[1]):
        gates = np.ascontiguousarray(steps[:, step]) @ weight_ih.T + state @ weight_hh.T + (bias_ih + bias_hh)
        enter, forget, fresh, leave = (gates[:, g * hidden : (g + 1) * hidden] for g in range(4))
        cell = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(fresh)
        state = _sigmoid(leave) * np.tanh(cell)
        states[:, step] = state
    return states


def gru_states(
    steps: Floats32, weight_ih: Floats32, weight_hh: Floats32, bias_ih: Floats32, bias_hh: Floats32
) -> Floats32:
    """States (n, steps, hidden) of a GRU (Cho and others, 2014) over inputs (n, steps, k), in PyTorch's form.

    Gates are reset, update, new; the reset gate acts after the state's matrix product.
    """
    hidden = weight_hh.shape[1]
    state = np.zeros((len(steps), hidden), np.float32)
    states = np.empty((len(steps), steps.shape[1], hidden), np.float32)
    for step in range(steps.shape[1]):
        given = np.ascontiguousarray(steps[:, step]) @ weight_ih.T + bias_ih
        own = state @ weight_hh.T + bias_hh
        reset = _sigmoid(given[:, :hidden] + own[:, :hidden])
        update = _sigmoid(given[:, hidden : 2 * hidden] + own[:, hidden : 2 * hidden])
        fresh = np.tanh(given[:, 2 * hidden :] + reset * own[:, 2 * hidden :])
        state = (np.float32(1) - update) * fresh + update * state
        states[:, step] = state
    return states


_STEPS = {"lstm": lstm_states, "gru": gru_states}
