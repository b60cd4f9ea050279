"""Consumes Parquet files of two windows, produces their distances as a script of NumPy and SciPy finds them.

`decode` reads the same columns and does nothing with them, in a thread a core. `plain` is what one would write by hand:
a process a core, each takes columns, sorts both windows and their union, and reads all statistics off two searches.
`scipy` calls SciPy's own functions, for the first columns of each kind: what all others must agree with.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy import stats

from benchmarks._drift import categorical, files, numeric, values_of
from benchmarks._session import CORES

BATCH_ROWS = 65_536


def prepare(data: Path, columns: int) -> Any:
    """Files of each window, names of columns."""
    lake = data / "lake"
    return [files(lake, window) for window in (0, 1)], numeric(columns), categorical(columns)


def run_decode(state: Any) -> int:
    """Rows that were read."""
    windows, *names = state
    wanted = [name for kind in names for name in kind]
    with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
        return sum(pool.map(lambda path: _decoded(path, wanted), [path for paths in windows for path in paths]))


def _decoded(path: str, names: Sequence[str]) -> int:
    with pq.ParquetFile(path) as file:
        return sum(b.num_rows for b in file.iter_batches(BATCH_ROWS, columns=list(names), use_threads=False))


def run_plain(state: Any) -> list[dict[str, Any]]:
    """All columns."""
    windows, numbers, texts = state
    work = [(windows, name, name in texts) for name in [*numbers, *texts]]
    with multiprocessing.Pool(CORES) as pool:
        return pool.map(_plain, work, chunksize=1)


def _plain(work: tuple[Any, str, bool]) -> dict[str, Any]:
    windows, name, is_text = work
    if is_text:
        return _categories(windows, name)
    one, other = (np.sort(found[np.isfinite(found)]) for found in (values_of(paths, name) for paths in windows))
    both = np.sort(np.concatenate([one, other]))
    first, second = (np.searchsorted(sample, both, "right") / len(sample) for sample in (one, other))
    gaps = np.abs(first - second)
    edges = np.unique(np.quantile(one, np.arange(1, 10) / 10, method="inverted_cdf"))
    edges = edges[edges < one[-1]]
    until = [np.append(np.searchsorted(sample, edges, "right"), len(sample)) for sample in (one, other)]
    p, q = (np.maximum(np.diff(places, prepend=0), 0.5) / places[-1] for places in until)
    ks = float(gaps.max())
    return {
        "column": name,
        "ks": ks,
        "ks_p": _p(ks, len(one), len(other)),
        "wasserstein": float(gaps[:-1] @ np.diff(both.astype(np.float64))),
        "median_reference": float(np.median(one)),
        "median_current": float(np.median(other)),
        "psi": float(np.sum((q - p) * np.log(q / p))),
    }


def _p(ks: float, n: int, m: int) -> float:
    return float(np.clip(stats.kstwo.sf(ks, np.round(n * m / (n + m))), 0, 1))


def _categories(windows: Any, name: str) -> dict[str, Any]:
    counts = []
    for paths in windows:
        found = [pq.read_table(path, columns=[name], partitioning=None)[name].to_pandas() for path in paths]
        counts.append(sum((part.value_counts() for part in found[1:]), found[0].value_counts()))
    names = sorted({*counts[0].index, *counts[1].index})
    table = [[int(found.get(each, 0)) for each in names] for found in counts]
    tested = stats.chi2_contingency(table, correction=False)
    return {"column": name, "chi2": float(tested.statistic), "chi2_p": float(tested.pvalue)}


def run_scipy(state: Any, share: int) -> list[dict[str, Any]]:
    """The first `share` columns of numbers and all categorical ones."""
    windows, numbers, texts = state
    found = [_categories(windows, name) for name in texts]
    for name in numbers[:share]:
        one, other = (
            values[np.isfinite(values)].astype(np.float64) for values in (values_of(p, name) for p in windows)
        )
        tested = stats.ks_2samp(one, other, method="asymp")
        medians = {f"median_{side}": float(np.median(v)) for side, v in (("reference", one), ("current", other))}
        wasserstein = float(stats.wasserstein_distance(one, other))
        told = {"ks": float(tested.statistic), "ks_p": float(tested.pvalue), "wasserstein": wasserstein}
        found.append({"column": name, **told, **medians})
    return found
