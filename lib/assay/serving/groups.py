"""Consumes a group's condensed steps, produces its features at the steps of rows: each is worked out once and kept.

What a group's features are at a step rests on the steps before it alone, so it is the same for every request of a
server's state. Betas look at the means of the steps themselves, of every step that the entity's rows may lie in.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from assay.features.condensed import merge
from assay.features.kernel import GroupHistory, group_schema, packed
from assay.features.plan import FeaturePlan
from assay.features.standing import now_column
from assay.features.timeline import Timeline
from assay.serving.keyed import Keyed, polars_of

if TYPE_CHECKING:
    import polars as pl

EMPTY = {"n": 0, "s": 0.0, "q": 0.0, "lo": None, "hi": None}  # condensed, of no value
MOST = 100_000  # steps of groups that are kept


class GroupSteps:
    """The features of a market's groups at the steps that were asked for. Threads take turns."""

    def __init__(self, plan: FeaturePlan, label: str, cells: Keyed) -> None:
        """cells: condensed rows of the market, by group."""
        self.cells = cells
        self._plan, self._label = plan, label
        self._schema = group_schema(plan, label)
        self._values = list(dict.fromkeys(h.column for h in plan.history))
        self._known = polars_of(self._schema.empty_table())
        self._places: dict[tuple[object, ...], int] = {}
        self._lock = threading.Lock()
        self._now = self._means()

    def at(self, asked: pl.DataFrame) -> bytes:
        """Rows of `group_schema` as `BuildFeatures` takes them.

        A step of which nothing is known yet is a cell without values, which is what a row itself is in a batch.
        asked: the group's columns and `time`, the step, no row twice.
        """
        with self._lock:
            found = self._at(asked)
        return packed(found.to_arrow().cast(self._schema))

    def _at(self, asked: pl.DataFrame) -> pl.DataFrame:
        import polars as pl

        keys = asked.rows()
        new = [place for place, key in enumerate(keys) if key not in self._places]
        if new:
            if len(self._places) + len(new) > MOST:
                self._known, new = self._known.clear(), list(range(len(keys)))
                self._places.clear()
            fresh = self._made(asked[new])
            first = self._known.height
            self._known = pl.concat([self._known, fresh])
            columns = fresh.select(asked.columns).rows()
            self._places.update((key, first + place) for place, key in enumerate(columns))
        found = self._known[[self._places[key] for key in keys]]
        if self._now is not None:
            before = self._now.of(asked).join(asked, on=asked.columns, how="anti", nulls_equal=True)
            found = pl.concat([found, before], how="diagonal")
        return found

    def _made(self, asked: pl.DataFrame) -> pl.DataFrame:
        """The rows of `asked` alone."""
        import polars as pl

        by = list(self._plan.groups[self._label])
        cells = self.cells.of(asked)
        empty = [pl.lit(nothing).alias(f"{v}|{m}") for v in self._values for m, nothing in EMPTY.items()]
        marks = asked.with_columns(empty).select(cells.columns).cast(cells.schema)
        first = asked["time"].dt.timestamp("us").min()
        assert isinstance(first, int)
        whole = merge(pl.concat([cells, marks]), by, self._values)
        made = GroupHistory(self._plan, self._label, since=first)(iter(whole.to_arrow().to_batches()))
        found = polars_of(pa.Table.from_batches(list(made), self._schema))
        return found.join(asked, on=asked.columns, how="semi", nulls_equal=True, maintain_order="left")

    def _means(self) -> Keyed | None:
        """The targets' means of every step, by group, as `GroupHistory` has them; None where nothing asks for them."""
        import polars as pl

        targets = [target for target in self._plan.targets if now_column(target) in self._schema.names]
        if not targets:
            return None
        by: Sequence[str] = self._plan.groups[self._label]
        timeline = Timeline(merge(self.cells.rows, by, self._values), by, oldest_us=self._plan.oldest_us)
        every = np.arange(len(timeline.times))
        columns = []
        for target in targets:
            with np.errstate(invalid="ignore"):
                means = timeline.sums(target, "s")(every, every + 1) / timeline.counts(target)
            columns.append(pl.Series(now_column(target), means, nan_to_null=True))
        return Keyed(timeline.cells.with_columns(columns), by)
