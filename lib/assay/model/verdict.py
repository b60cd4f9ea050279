"""Consumes a figure and its threshold, produces a gate's outcome: what stands on record of why a model may be used."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One gate's outcome. rule: in words, with both figures and the setting."""

    gate: str
    passed: bool
    figure: float
    threshold: float
    rule: str
