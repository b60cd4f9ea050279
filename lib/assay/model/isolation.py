"""Consumes a batch and what scores it, produces the scored rows; rows that make it raise are told apart from the rest.

A batch that raises is cut in half, and each half again, down to the rows that are to blame: k of n rows cost about
2 k log2(n / k) further calls, a batch without any costs none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pyarrow as pa

from assay.errors import AssayError

HOPELESS_ROWS = 1_000  # that fail one after the other, and none was ever scored: then the model fails, not its rows

Score = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclasses.dataclass
class Isolating:
    """Scores batches of one task.

    score: batch -> as many rows.  hopeless_rows: of failures in a row before the first success.
    """

    score: Score
    hopeless_rows: int = HOPELESS_ROWS
    _scored: bool = dataclasses.field(default=False, init=False)
    _failed: int = dataclasses.field(default=0, init=False)

    def parts(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch | Exception]:
        """In the batch's order: scored rows, or the error of one row. Raises what `told` raises."""
        return (found for _, found in self.told(batch))

    def told(self, batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch | Exception]]:
        """In the batch's order: some of its rows and what they score, or one row and its error.

        Raises:
            AssayError: it is ours (a changed file, a missing column), or no row at all can be scored.
        """
        waiting = [batch]
        while waiting:
            part = waiting.pop()
            try:
                found = self.score(part)
            except (AssayError, MemoryError):
                raise
            except Exception as error:
                if part.num_rows > 1:
                    half = part.num_rows // 2
                    waiting += [part.slice(half), part.slice(0, half)]
                    continue
                self._count(error)
                yield part, error
            else:
                self._scored = True
                yield part, found

    def _count(self, error: Exception) -> None:
        self._failed += 1
        if not self._scored and self._failed >= self.hopeless_rows:
            text = (str(error).splitlines() or [""])[0]
            raise AssayError(
                f"the model could score none of the first {self._failed:,} rows: {type(error).__name__}: {text}"
            ) from error


def rebatched(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most `rows`: small ones are joined, because calls of a model have a cost of their
    own; one that fits as it is is not copied.
    """
    waiting: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            part = batch.slice(start, rows)
            if held + part.num_rows > rows:
                yield _together(waiting)
                waiting, held = [], 0
            waiting.append(part)
            held += part.num_rows
    if waiting:
        yield _together(waiting)


def _together(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    (found,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return found
