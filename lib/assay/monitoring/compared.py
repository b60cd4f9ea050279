"""Consumes one column of two windows, produces a row that says how far apart they are: what tasks tell the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from assay.monitoring.samples import Apart

COMPARED = pa.schema(
    [
        pa.field("column", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("numeric", pa.bool_()),
        pa.field("segment", pa.string()),  # empty for all rows
        *(
            pa.field(f"{what}_{window}", pa.int64())
            for window in ("reference", "current")
            for what in ("rows", "known")
        ),
        pa.field("bins", pa.list_(pa.list_(pa.int64()))),
        *(pa.field(name, pa.float64()) for name in ("ks", "error", "wasserstein", "spread")),
        *(pa.field(f"median_{window}", pa.float64()) for window in ("reference", "current")),
        pa.field("new", pa.int64()),
        pa.field("new_categories", pa.list_(pa.string())),
    ]
)
STATISTICS = ("ks", "error", "wasserstein", "spread", "new")


class Seen(Protocol):
    """One column's rows in one window, or what is left of them."""

    @property
    def rows(self) -> int:
        """How many, those without a value too."""
        ...

    @property
    def numeric(self) -> bool:
        """Whether they are numbers, or categories."""
        ...

    def against(self, current: Any) -> tuple[Apart, Sequence[str]]:
        """Compare with the current window; also its most frequent new categories."""
        ...


def compared(name: str, segment: str, kinds: tuple[str, str], reference: Seen, current: Seen) -> dict[str, object]:
    """A row of `COMPARED`. kinds: names of numbers and of categories."""
    apart, new = reference.against(current)
    return {
        "column": name,
        "kind": kinds[0 if reference.numeric else 1],
        "numeric": reference.numeric,
        "segment": segment,
        "rows_reference": reference.rows,
        "known_reference": apart.reference,
        "rows_current": current.rows,
        "known_current": apart.current,
        "bins": apart.bins.tolist(),
        **{statistic: getattr(apart, statistic) for statistic in STATISTICS},
        "median_reference": apart.medians[0],
        "median_current": apart.medians[1],
        "new_categories": list(new),
    }


def apart_of(row: Mapping[str, Any]) -> Apart:
    """Read back a row of `COMPARED`."""
    return Apart(
        row["known_reference"],
        row["known_current"],
        np.array(row["bins"], dtype=np.int64).reshape(2, -1),
        medians=(row["median_reference"], row["median_current"]),
        **{statistic: row[statistic] for statistic in STATISTICS},
    )
