"""Produces invented outcomes of classes or with quantiles, and what members had said of them."""

from __future__ import annotations

import numpy as np

from assay.model.outcome import Outcome
from assay.training.dynamic_weights import DAY
from assay.training.ensemble_choice import OutOfTime

CLASSES = {
    2: Outcome("binary", ("no", "yes")),
    3: Outcome("multiclass", ("low", "middle", "high")),
    4: Outcome("multiclass", tuple("abcd")),
}
QUANTILES = Outcome("quantiles", levels=(0.1, 0.5, 0.9))


def of_classes(seed, count=300, members=3, classes=3):
    """Codes (n,) drawn by true probabilities, and members (n, M, K) who see their logarithms through noise, too sure
    or not sure enough."""
    random = np.random.default_rng(seed)
    logs = 1.5 * random.normal(size=(count, classes))
    codes = (logs + random.gumbel(size=logs.shape)).argmax(axis=1)
    noise = random.normal(size=(count, members, classes)) * random.uniform(0.2, 1.5, members)[:, None]
    raised = np.exp(logs[:, None] * random.uniform(0.5, 1.8, members)[:, None] + noise)
    return codes.astype(float), raised / raised.sum(axis=2, keepdims=True)


def of_quantiles(seed, count=300, members=3, levels=QUANTILES.levels):
    """Outcomes (n,), and members (n, M, Q) whose quantiles are off by errors and widths of their own."""
    random = np.random.default_rng(seed)
    centre = random.normal(size=count)
    truth = centre + random.normal(size=count)
    off = random.normal(size=(count, members)) * random.uniform(0.1, 1.5, members) + random.normal(0, 0.2, members)
    wide = random.uniform(0.5, 1.5, members)[:, None] * (np.array(levels) - 0.5) * 3
    return truth, centre[:, None, None] + off[:, :, None] + wide


def out_of_time(truth, members, outcome, *, days=60, seed=0):
    """The same as rows of so many days, in order of time."""
    times = np.sort(np.random.default_rng(seed).integers(0, days, len(truth))) * DAY
    return OutOfTime(tuple(f"m{i}" for i in range(members.shape[1])), times, truth, members, outcome)
