"""Consumes a calibration's settings, produces how its quantiles follow the misses in time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from assay.config.conformal import ConformalConfig
from assay.conformal.adaptive import Adaptation
from assay.conformal.experts import STEP_SIZES
from assay.conformal.scores import Part

WIDTHS, SINGLE, EXPERTS = "widths", "aci", "dtaci"
STEP_SIZE = {WIDTHS: 0.45, SINGLE: 0.2, EXPERTS: 0.2}  # that experts have their own of
DAMPING_ROWS = {WIDTHS: 15.0, SINGLE: 100.0, EXPERTS: 100.0}


@dataclasses.dataclass(frozen=True)
class Pace:
    """How quantiles follow. step_days: length of a step.  delay_days: after a row's time, until its outcome is known.

    way: `widths` moves quantiles by `step_size` (`widths.py`), `aci` the share of misses that they aim at; `dtaci` that
    by several step sizes, which are weighted by how well each did (`experts.py`).
    Others: see `Adaptation`, of which windows and half-lives are in steps; here they are in days.

    Raises ValueError for an unknown way.
    """

    step_days: float
    step_size: float
    damping_rows: float
    window_days: float | None = None
    halflife_days: float | None = None
    delay_days: float = 0.0
    way: str = SINGLE

    @classmethod
    def of(cls, config: ConformalConfig, *, step_days: float, delay_days: float, classes: bool = False) -> Pace:
        """What a profile asks for. step_days: the data's own, for a profile that names none.  classes: of sets."""
        way = SINGLE if classes and config.adaptive_way == WIDTHS else config.adaptive_way
        return cls(
            step_days=config.step_days or step_days,
            step_size=STEP_SIZE[way] if config.step_size is None else config.step_size,
            damping_rows=DAMPING_ROWS[way] if config.damping_rows is None else config.damping_rows,
            window_days=config.window_days,
            halflife_days=config.halflife_days,
            delay_days=delay_days,
            way=way,
        )

    def adaptation(self, parts: Sequence[Part], min_rows: int) -> Adaptation:
        """The same for the parts of a kind of score. min_rows: least known rows of a segment."""
        window = None if self.window_days is None else max(1, round(self.window_days / self.step_days))
        return Adaptation(
            levels=tuple(part.promise for part in parts),
            columns=tuple(part.column for part in parts),
            step_size=self.step_size,
            step_sizes=STEP_SIZES if self.way == EXPERTS else (),
            damping_rows=self.damping_rows,
            min_rows=min_rows,
            window=window,
            halflife=None if self.halflife_days is None else self.halflife_days / self.step_days,
            above_zero=tuple(part.above_zero for part in parts) if self.way == WIDTHS else (),
        )

    def __post_init__(self) -> None:
        if self.way not in STEP_SIZE:
            raise ValueError(f"pace: way must be one of {', '.join(STEP_SIZE)}, found {self.way!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; the way only where it is not `aci`, which is what calibrations without one have."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "way" or v != SINGLE}

    @classmethod
    def from_dict(cls, tree: Any) -> Pace:
        """Read back `to_dict`. Raises ValueError for other fields."""
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(tree, dict) or set(tree) | {"way"} != names:
            raise ValueError(f"pace: expected the fields {sorted(names)}")
        return cls(**tree)
