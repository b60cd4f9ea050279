"""Consumes a sample of training rows, produces bounds, an isolation forest, and which rows do not teach."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.config.preparation import OutliersConfig
from assay.model.encoding import Matrix, read_numbers
from assay.model.preparation_forest import Forest, forest_of
from assay.model.scale import Floats
from assay.training.preparation_sample import Sample

FOREST_ROWS = 256  # each tree sees so many, as Liu, Ting and Zhou recommend


@dataclasses.dataclass(frozen=True)
class Teachable:
    """Kernel over training rows: leaves out those with an input outside of its range, or flagged by the forest.

    columns: p inputs.  low, high: (p,), infinite where anything goes.  Missing values are no reason to leave a row out.
    """

    columns: tuple[str, ...]
    low: Floats
    high: Floats
    forest: Forest | None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows that teach."""
        for batch in batches:
            raw = np.empty((batch.num_rows, len(self.columns)), dtype=np.float32)
            read_numbers(batch, self.columns, raw)
            kept = batch.filter(pa.array(self.keep(raw)))
            if kept.num_rows:
                yield kept

    def keep(self, raw: Matrix) -> npt.NDArray[np.bool_]:
        """(n, p) -> (n,), True for rows that teach."""
        found = np.asarray(~((raw < self.low) | (raw > self.high)).any(axis=1), dtype=np.bool_)
        return found if self.forest is None else found & ~self.forest.flags(raw)


def teachable(
    config: OutliersConfig, columns: tuple[str, ...], looked_at: npt.NDArray[np.bool_], sample: Sample, seed: int
) -> Teachable | None:
    """The rule of `outliers.remove` and of a forest that removes, or None where every row teaches.

    Means, deviations and quartiles are those of the sample. A column without spread has no outliers.
    """
    drops = config.isolation_forest == "remove"
    if config.remove == "none" and not drops:
        return None
    low, high = np.full(len(columns), -np.inf), np.full(len(columns), np.inf)
    if config.remove != "none":
        values = sample.numbers.astype(np.float64)
        for position in np.flatnonzero(looked_at):
            found = values[~np.isnan(values[:, position]), position]
            if not len(found):
                continue
            if config.remove == "zscore":
                middle, reach = (found.mean(),) * 2, config.zscore * found.std()
            else:
                quartiles = np.quantile(found, [0.25, 0.75])
                middle, reach = tuple(quartiles), config.iqr * (quartiles[1] - quartiles[0])
            if reach > 0:
                low[position], high[position] = middle[0] - reach, middle[1] + reach
    return Teachable(columns, low, high, fit_forest(config, sample, seed) if drops else None)


def fit_forest(config: OutliersConfig, sample: Sample, seed: int) -> Forest:
    """scikit-learn's isolation forest on the sample, missing values at their median."""
    from sklearn.ensemble import IsolationForest

    raw = sample.numbers
    typical = medians(raw.astype(np.float64)).astype(np.float32)
    filled = np.where(np.isnan(raw), typical, raw)
    forest = IsolationForest(
        n_estimators=config.trees,
        max_samples=min(FOREST_ROWS, len(filled)),
        contamination=config.contamination,
        random_state=seed,
    )
    return forest_of(forest.fit(filled), typical)


def bounds(
    config: OutliersConfig,
    given: Mapping[int, tuple[float, float]],
    looked_at: npt.NDArray[np.bool_],
    values: Floats,
) -> tuple[Floats, Floats] | tuple[None, None]:
    """Bounds (p,), (p,) of inputs: those given by position, and within them quantiles of the sample's values (m, p)."""
    if not given and config.winsorize is None:
        return None, None
    low, high = np.full(values.shape[1], -np.inf), np.full(values.shape[1], np.inf)
    for index, (lowest, highest) in given.items():
        low[index], high[index] = lowest, highest
    if config.winsorize is not None:
        inside = np.clip(values, low, high)
        for position in np.flatnonzero(looked_at):
            found = inside[~np.isnan(inside[:, position]), position]
            if len(found):
                low[position], high[position] = np.quantile(found, config.winsorize)
    return low, high


def medians(values: Floats) -> Floats:
    """Median of each column (m, p) -> (p,); 0 where no value is known."""
    known = ~np.isnan(values)
    found = [np.median(column[have]) if have.any() else 0.0 for column, have in zip(values.T, known.T, strict=True)]
    return np.array(found, dtype=np.float64)
