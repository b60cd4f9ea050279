"""Consumes trials on a part of the rows, produces those whose parameters are worth a trial on all rows.

Successive halving with rows as the resource, asynchronous: whoever is free takes the best that is waiting, and else
screens new parameters (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from assay.tuning.journal import COMPLETE, Trial

PROMOTED = 6  # one in so many screened trials learns from all rows
LEAST_FACTOR = 2.0  # a part that is not at least so much smaller than the whole saves too little


@dataclasses.dataclass(frozen=True)
class Screening:
    """share: part of the rows from which new parameters are learned first; 1 screens nothing."""

    share: float = 1.0

    @classmethod
    def of(cls, rows: int, screen_rows: int) -> Screening:
        """Of so many rows that teach, `screen_rows`; 0 screens nothing."""
        return cls(screen_rows / rows) if 0 < screen_rows * LEAST_FACTOR <= rows else cls()

    @property
    def active(self) -> bool:
        """Whether there is any."""
        return self.share < 1

    def worth_all_rows(self, trials: Sequence[Trial], running: Sequence[Trial], *, last: bool) -> Trial | None:
        """The screened trial that is to learn from all rows next; None where a new one is to be screened.

        It is the best that is left, once for every `PROMOTED` that were screened. last: there is no time to screen
        more, so nothing is waited for.
        """
        if not self.active:
            return None
        had = {trial.of for trial in (*trials, *running)}
        screened = [t for t in trials if t.share < 1 and t.finished]
        if not last and len(had - {None}) >= len(screened) // PROMOTED:
            return None
        waiting = [t for t in screened if t.state == COMPLETE and t.number not in had]
        return min(waiting, key=lambda t: (t.loss, t.number), default=None)

    def learned_from(self, trials: Sequence[Trial]) -> list[Trial]:
        """What a sampler may learn from: losses of one kind. Every proposal was screened."""
        return [t for t in trials if t.share < 1] if self.active else list(trials)

    def points(self, budget: int) -> int:
        """New parameters that a budget of so many trials on all rows is enough for."""
        return max(1, int(budget / (self.share + (1 / PROMOTED if self.active else 0))))
