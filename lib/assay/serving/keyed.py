"""Consumes rows, produces those of some keys without looking at the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import polars as pl


class Keyed:
    """Rows that are asked for by key, each key's in their order: a hash of the key finds them without a scan."""

    def __init__(self, rows: pl.DataFrame, columns: Sequence[str]) -> None:
        """rows: any, with the key's columns as text; without columns all rows are one key's."""
        self.columns = list(columns)
        self._rows, self._hashes, self._starts = rows, np.zeros(0, dtype=np.uint64), np.zeros(1, dtype=np.int64)
        if self.columns:
            hashes = self._hashed(rows)
            order = np.argsort(hashes, kind="stable")
            self._rows = rows[order]
            self._hashes, starts = np.unique(hashes[order], return_index=True)
            self._starts = np.append(starts, rows.height).astype(np.int64)

    @property
    def rows(self) -> pl.DataFrame:
        """All of them."""
        return self._rows

    def _hashed(self, frame: pl.DataFrame) -> np.ndarray:
        return frame.select(self.columns).hash_rows(seed=0).to_numpy()

    def of(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Rows of the keys of a frame, null being a key like any other."""
        if not self.columns or not self._rows.height:
            return self._rows
        wanted = np.unique(self._hashed(keys))
        place = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        found = place[self._hashes[place] == wanted]
        spans = [np.arange(self._starts[p], self._starts[p + 1]) for p in found]
        rows = self._rows[np.concatenate(spans)] if spans else self._rows.clear()
        mine = keys.select(self.columns).unique()
        return rows.join(mine, on=self.columns, how="semi", nulls_equal=True, maintain_order="left")


def polars_of(table: pa.Table) -> pl.DataFrame:
    """An Arrow table as a Polars frame."""
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
