"""Consumes a rank's feature batches, produces the passes that XGBoost makes over them to build its binned matrix.

XGBoost reads the data four times (count, sketch, cut, bin). Decoding Parquet each time would cost more than the matrix
in memory saves, so the first pass keeps the encoded chunks: in memory while they are few, else in a file on local disk.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.model.encoding import Encoding, Matrix
from assay.model.scale import TargetScale, as_floats
from assay.training.weights import RowWeights, Weights
from assay.training.xgboost_missing import Fills, fill

CHUNK_ROWS = 131_072
MEMORY_BYTES = 32 << 20
PLAIN_VALUES = 32 << 20  # of rows that judge, up to which they are kept as they are (8 bytes a value)
Labels = npt.NDArray[np.float32]
Chunk = tuple[Matrix, Labels, RowWeights | None]


def coalesce(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Join small batches (a month of a small table, say) to chunks of about `rows` rows."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= rows:
            yield pa.concat_batches(held)
            held, count = [], 0
    if held:
        yield pa.concat_batches(held)


class EncodedChunks:
    """Encoded chunks of a share, readable again and again. Labels and weights stay in memory (4 bytes a row each).

    rows: the target and the scale's columns of each chunk, after the first pass, where `keep_rows` asks for them.
    fills: what replaces missing values of each input, (features,); they stay without.
    """

    def __init__(
        self,
        batches: Callable[[], Iterator[pa.RecordBatch]],
        encoding: Encoding,
        scale: TargetScale,
        weights: Weights | None = None,
        *,
        keep_rows: bool = False,
        fills: Fills | None = None,
    ) -> None:
        self.rows: list[pa.RecordBatch] = []
        self._kept_columns = [*dict.fromkeys([scale.target, *scale.columns])] if keep_rows else []
        self._batches = batches
        self._encoding = encoding
        self._scale = scale
        self._weights = weights
        self._fills = fills
        self._labels: list[tuple[Labels, RowWeights | None]] = []
        self._kept: list[Matrix | tuple[int, int]] = []
        self._in_memory = 0
        self._file = tempfile.TemporaryFile(prefix="assay-chunks-", dir=local_folder())  # noqa: SIM115
        self._complete = False

    def __iter__(self) -> Iterator[Chunk]:
        """One pass over all chunks: matrix (n, features), label (n,) on the model's scale, weights (n,) or None."""
        if self._complete:
            for kept, told in zip(self._kept, self._labels, strict=True):
                yield (kept if isinstance(kept, np.ndarray) else self._load(*kept)), *told
            return
        self._kept, self._labels, self._in_memory, self.rows = [], [], 0, []
        for batch in coalesce(self._batches(), CHUNK_ROWS):
            label = self._scale.forward(as_floats(batch.column(self._scale.target)), batch).astype(np.float32)
            matrix = self._encoding.matrix(batch)
            if self._fills is not None:
                fill(matrix, self._fills)
            weight = self._weights(batch) if self._weights is not None else None
            self._labels.append((label, weight))
            if self._kept_columns:
                self.rows.append(batch.select(self._kept_columns))
            self._kept.append(self._keep(matrix))
            yield matrix, label, weight
        if not self._kept:  # a rank without rows still takes part in every step of the others
            empty = np.empty((0, len(self._encoding.features)), dtype=np.float32)
            nothing = np.empty(0, dtype=np.float32)
            self._kept, self._labels = [empty], [(nothing, nothing if self._weights is not None else None)]
            yield empty, *self._labels[0]
        self._complete = True

    def _keep(self, matrix: Matrix) -> Matrix | tuple[int, int]:
        if self._in_memory + matrix.nbytes <= MEMORY_BYTES:
            self._in_memory += matrix.nbytes
            return matrix
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(matrix.data)
        return offset, len(matrix)

    def _load(self, offset: int, rows: int) -> Matrix:
        matrix = np.empty((rows, len(self._encoding.features)), dtype=np.float32)
        self._file.seek(offset)
        self._file.readinto(matrix.data.cast("B"))
        return matrix

    def close(self) -> None:
        """Give the disk back."""
        self._kept, self._labels = [], []
        self._file.close()


def local_folder() -> str | None:
    """Where Spark wants an executor's temporary files, if it says so."""
    for name in ("SPARK_LOCAL_DIRS", "LOCAL_DIRS"):
        for folder in os.environ.get(name, "").split(","):
            if folder and os.path.isdir(folder):
                return folder
    return None


def data_iter(chunks: EncodedChunks, feature_types: list[str]) -> Any:
    """XGBoost's `DataIter` over the chunks."""
    import xgboost as xgb

    class Stream(xgb.DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(chunks)
            super().__init__()

        def reset(self) -> None:
            self.left = iter(chunks)

        def next(self, input_data: Callable[..., Any]) -> bool:
            found = next(self.left, None)
            if found is None:
                return False
            matrix, label, weight = found
            input_data(data=matrix, label=label, weight=weight, feature_types=feature_types)
            return True

    return Stream()


def binned(chunks: EncodedChunks, encoding: Encoding, params: Mapping[str, Any], ref: Any = None) -> Any:
    """The binned matrix of rows. params: XGBoost's, of which `max_bin` and `nthread` are heeded.  ref: has the bins."""
    import xgboost as xgb

    stream = data_iter(chunks, encoding.feature_types)
    return xgb.QuantileDMatrix(stream, ref=ref, max_bin=int(params["max_bin"]), **_told(params))


def judging(chunks: EncodedChunks, encoding: Encoding, params: Mapping[str, Any], ref: Any, ranks: int = 1) -> Any:
    """The matrix of rows that judge each round of a training on `ref`; every rank of a collective calls this.

    On a CPU XGBoost looks up all inputs of such a row for each new tree, which takes ten times as long from bins as
    from values. So values they stay, unless they are too many for a rank's memory. Predictions are the same.
    """
    import xgboost as xgb

    size = np.array([sum(len(matrix) for matrix, _, _ in chunks) * len(encoding.features)])
    most = int((xgb.collective.allreduce(size, xgb.collective.Op.MAX) if ranks > 1 else size)[0])
    if most > PLAIN_VALUES or str(params.get("device", "cpu")) != "cpu":
        return binned(chunks, encoding, params, ref)
    matrices, labels, weights = zip(*chunks, strict=True)
    weight = None if weights[0] is None else np.concatenate(weights)
    told = {"weight": weight, "feature_types": encoding.feature_types, **_told(params)}
    return xgb.DMatrix(np.concatenate(matrices), np.concatenate(labels), **told)


def _told(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"nthread": params["nthread"], "enable_categorical": True}
