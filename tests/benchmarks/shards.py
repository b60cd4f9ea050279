"""Consumes King County's houses, tells what it costs CatBoost to learn from shards: one fit, and the mean of 2 and 4.

Raw columns and the logarithm of the price; the first 70 % of the rows in time train, 10 % tune, 20 % test. Months are
dealt to shards in turn, as files are to ranks; shards are ranks without Spark. Figures are RMSE on the test period: of
the model (`mean`), of the best and the worst shard alone, and of what CatBoost's `sum_models` would make (`summed`).
The data are looked for in `../shared/data` and in `$ASSAY_DATA`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import CACHE, Benchmark, Contender

NUMBERS = (
    *("bedrooms", "bathrooms", "sqft_living", "sqft_lot", "floors", "waterfront", "view", "condition", "grade"),
    *("sqft_above", "sqft_basement", "yr_built", "yr_renovated", "lat", "long", "sqft_living15", "sqft_lot15"),
)
FILE = "kc_house.parquet"
CORES = max(1, len(os.sched_getaffinity(0)))


def generate(_: Path, __: int) -> None:
    """Nothing: the data are real."""


def prepare(_: Path, categories: tuple[str, ...], shards: int) -> Any:
    """Batches of each shard's train and tune, and of the test period."""
    import polars as pl

    folders = [os.environ.get("ASSAY_DATA", ""), CACHE.parents[2] / "shared" / "data"]
    path = next(Path(folder) / FILE for folder in folders if folder and (Path(folder) / FILE).is_file())
    frame = pl.read_parquet(path).sort("date", maintain_order=True)
    month = frame["date"].str.slice(0, 6).rank("dense").to_numpy()
    columns = [pl.col(n).cast(pl.Float32) for n in NUMBERS] + [pl.col(n).cast(pl.String) for n in categories]
    frame = frame.select(*columns, pl.col("price").cast(pl.Float64))
    ends = (int(0.7 * len(frame)), int(0.8 * len(frame)))
    position = np.arange(len(frame))
    train, tune = position < ends[0], (position >= ends[0]) & (position < ends[1])

    def batch(which: Any) -> Any:
        import pyarrow as pa

        table = frame.filter(pl.Series(which)).to_arrow(compat_level=pl.CompatLevel.oldest())
        schema = pa.schema(
            [(n, pa.string() if n in categories else table.schema.field(n).type) for n in table.schema.names]
        )
        return pa.Table.from_batches(table.cast(schema).to_batches(), schema).combine_chunks().to_batches()

    vocabulary = {n: tuple(sorted(frame[n].drop_nulls().unique().to_list())) for n in categories}
    dealt = [[batch(period & (month % shards == shard)) for period in (train, tune)] for shard in range(shards)]
    (test,) = batch(position >= ends[1])
    return vocabulary, dealt, test


def run(state: Any) -> Any:
    """All shards at the same time, then the merge."""
    from assay.model.encoding import Encoding
    from assay.model.scale import TargetScale
    from assay.training.catboost_engine import RankTask
    from assay.training.catboost_models import merged
    from assay.training.catboost_params import resolve
    from thread_ranks import Ranks

    vocabulary, dealt, test = state
    encoding = Encoding(NUMBERS, vocabulary)
    task = RankTask(
        encoding=encoding,
        scale=TargetScale("price", "log"),
        params=resolve({}, encoding, seed=7),
        rounds=600,
        early_stopping_rounds=40,
        refit=False,
        threads=CORES,
        address=None,
    )
    meeting = Ranks(len(dealt))

    def learn(rank: int) -> dict[str, Any]:
        return task(meeting.context(rank), [partial(iter, batches) for batches in dealt[rank]])

    with ThreadPoolExecutor(len(dealt)) as pool:
        found = list(pool.map(learn, range(len(dealt))))
    total = sum(one["total"] for one in found)
    members = [(one["total"] / total, one["booster"]) for one in found]
    return merged(members, numeric=not vocabulary), members, encoding, test


def outputs(result: Any) -> Mapping[str, float]:
    """Losses on the test period."""
    import catboost

    from assay.model.catboost_predictor import CatBoostPredictor, loaded
    from assay.training.catboost_models import bytes_of

    stored, members, encoding, test = result
    matrix, truth = encoding.matrix(test), np.log(test.column("price").to_numpy())

    def rmse(cbm: bytes) -> float:
        return float(np.sqrt(np.mean((CatBoostPredictor(cbm, CORES).predict(matrix) - truth) ** 2)))

    alone = [rmse(cbm) for _, cbm in members]
    policy = {"ctr_merge_policy": "IntersectingCountersAverage"}
    summed = catboost.sum_models([loaded(cbm) for _, cbm in members], weights=[w for w, _ in members], **policy)
    return {"mean": rmse(stored), "best": min(alone), "worst": max(alone), "summed": rmse(bytes_of(summed))}


BENCHMARK = Benchmark(
    name="shards",
    rows=1,
    generate=generate,
    contenders={
        f"{name}:{shards}": Contender(
            partial(prepare, categories=categories, shards=shards), run, outputs, against=f"{name}:1"
        )
        for name, categories in (("numbers", ()), ("zipcode", ("zipcode",)))
        for shards in (1, 2, 4)
    },
    repeats=1,
)
