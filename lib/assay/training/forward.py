"""Consumes how many labelled rows each time has, produces blocks of the calibration period and what may teach each.

The model that serves knows newer rows than the one that was held back from the whole calibration period, and its errors
are others. So the period is cut into blocks, and the errors of each come from a model that learned from all rows known
before the block began: by the last block, one that is nearly as new as the one that serves.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence

from assay.model.bundle import Model
from assay.model.registry import BLOCK
from assay.runtime.progress import Reporter
from assay.training.split import Period
from assay.training.validation import Fold, period

Fitted = Callable[[Period], Model]


def forward_blocks(
    times: Sequence[dt.datetime], counts: Sequence[int], calibrate: Period, *, blocks: int, gap: dt.timedelta
) -> list[Fold]:
    """Consecutive blocks of about as many rows each, and for each all rows that were known before it began.

    (Rolling-origin evaluation, Tashman 2000, whose blocks all calibrate; the training window grows.)

    Args:
        times: distinct times of labelled rows, ascending, UTC.
        counts: labelled rows at each.
        calibrate: the period that is cut; every row of it is in one block.
        blocks: how many; fewer where the period has fewer times.
        gap: between the last row that teaches and the block: the embargo, or the target's delay, if that is longer.

    A block that would be taught by no other rows than the one before it, as all new ones are within the gap, is left to
    the earlier block.
    """
    inside = [(time, rows) for time, rows in zip(times, counts, strict=True) if calibrate.first <= time]
    inside = [(time, rows) for time, rows in inside if time <= calibrate.last]
    total, reached, starts = sum(rows for _, rows in inside), 0, [calibrate.start or calibrate.first]
    for time, rows in inside:
        if len(starts) < blocks and reached >= total * len(starts) / blocks * (1 - 1e-9):
            starts.append(time)
        reached += rows
    found: list[Fold] = []
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else calibrate.end
        judge = period(times, counts, start, end)
        teach = period(times, counts, None, start - gap)
        assert judge is not None  # it begins with a time of its own
        assert teach is not None  # the train period is part of it
        if found and teach.last == found[-1].train.last:
            before = found.pop()
            rows = before.validate.rows + judge.rows
            judge = dataclasses.replace(before.validate, end=end, rows=rows, last=judge.last)
            teach = before.train
        found.append(Fold(teach, judge))
    return found


def fitted_blocks(folds: Sequence[Fold], fitted: Fitted, reporter: Reporter) -> dict[str, Model]:
    """The models of all blocks but the first, whose rows the held-back model scores; each says which block is its own.

    They are named `block_2` and so on.

    fitted: learns from a period as the first fit chose to: inputs, parameters and rounds, and nobody as a judge.
    """
    found = {}
    for number, fold in enumerate(folds[1:], start=2):
        told = f"block {number} of {len(folds)} of the calibration period, from {fold.validate.first:%Y-%m-%d}"
        with reporter.step(f"fitting again on {fold.train.rows:,} rows known before {told}"):
            model = fitted(fold.train)
        facts = {**model.facts, BLOCK: {**fold.validate.to_dict(), "block": number, "blocks": len(folds)}}
        found[f"{BLOCK}_{number}"] = dataclasses.replace(model, facts=facts)
    return found
