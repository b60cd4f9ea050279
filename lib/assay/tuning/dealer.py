"""Consumes what slots ask, produces answers of the studies whose trials they make: slots are shared among studies.

A slot builds what a study's trials learn from once, so it stays with a study while that has trials for it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from assay.tuning.study import Study


class Dealer:
    """Sends each slot to the study with most left for each of its slots. Slots call it from threads of their own."""

    def __init__(self, studies: Sequence[Study]) -> None:
        self.studies = studies
        self._lock = threading.Lock()
        self._at: dict[int, int] = {}  # slot -> its study
        self._begun: set[int] = set()

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """What a slot is told; which study a trial is of stands beside it, and comes back with what it came to."""
        if message.get("ask") != "trial":
            return self.studies[int(message.get("study", 0))].answer(message)
        slot, tried = int(message["slot"]), set[int]()
        while (number := self._next(slot, tried)) is not None:
            told = self.studies[number].answer(message)
            if "trial" in told:
                return {**told, "study": number}
            tried.add(number)
        return {}

    def _next(self, slot: int, tried: set[int]) -> int | None:
        """Where the slot goes; None where it has been everywhere."""
        with self._lock:
            here = self._at.get(slot)
            if here is not None and here not in tried:
                return here
            open_ = [number for number in range(len(self.studies)) if number not in tried]
            if not open_:
                return None
            found = max(open_, key=lambda number: (self._left_per_slot(number, slot), -number))
            if here is not None and found not in self._begun:
                self.studies[found].begin()  # nobody had time for it until now
            self._begun.add(found)
            self._at[slot] = found
            return found

    def _left_per_slot(self, number: int, slot: int) -> float:
        there = sum(study == number for other, study in self._at.items() if other != slot)
        return self.studies[number].left / (1 + there)
