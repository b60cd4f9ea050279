"""Produces invented rows and ranks without Spark, for the tests of the CatBoost engine."""

from __future__ import annotations

import threading

import catboost
import numpy as np
import pandas as pd
import pyarrow as pa

from assay.model.encoding import Encoding
from assay.model.predictors import load_predictor
from assay.model.scale import TargetScale
from assay.runtime.barrier import RankContext
from assay.training.catboost_engine import RankTask
from assay.training.catboost_params import QUIET, resolve
from assay.training.catboost_rows import read_rows

CITIES = ("Austin", "Dallas", "Waco")
BOTH = Encoding(("size",), {"city": CITIES})
NUMBERS = Encoding(("size", "age"), {})


def invent(rows, seed=0, *, cities=CITIES, noise=0.1):
    """A batch with two numbers, one of them with holes, a category with missing and unseen values, and an outcome."""
    random = np.random.default_rng(seed)
    size, city = (
        random.normal(size=rows).astype(np.float32),
        random.choice(np.array([*cities, "Lufkin", None], object), rows),
    )
    y = 3 * size + 5 * (city == "Austin") - 4 * ~np.isin(city, CITIES) + noise * random.normal(size=rows)
    size[random.random(rows) < 0.1] = np.nan
    columns = {"size": pa.array(size), "age": pa.array(random.integers(0, 9, rows), pa.float32())}
    return pa.record_batch({**columns, "city": pa.array(city.tolist(), pa.string()), "y": pa.array(y)})


def task_of(*, encoding=BOTH, scale=None, params=None, rounds=20, stopping=0, refit=False, seed=7, **more):
    return RankTask(
        encoding=encoding,
        scale=scale or TargetScale("y"),
        params=resolve(params or {}, encoding, seed=seed),
        rounds=rounds,
        early_stopping_rounds=stopping,
        refit=refit,
        address=None,
        **{"threads": 1, **more},
    )


def shares_of(train, tune):
    return [lambda: iter(train)] + ([lambda: iter(tune)] if tune is not None else [])


def lone(train, *, tune=None, **more):
    """Learn as a lone rank does; train and tune are lists of batches."""
    context = RankContext(rank=0, ranks=1, gpus=(), cpus=1, host="127.0.0.1", gather=lambda text: [text])
    return task_of(**more)(context, shares_of(train, tune))


def together(trains, *, tunes=None, **more):
    """Learn as several ranks do, at the same time; results in order of rank."""
    ranks, barrier = len(trains), threading.Barrier(len(trains))
    told, results = [""] * ranks, [None] * ranks

    def run(rank):
        def gather(text):
            told[rank] = text
            barrier.wait(30)
            return list(told)

        context = RankContext(rank=rank, ranks=ranks, gpus=(), cpus=1, host="127.0.0.1", gather=gather)
        results[rank] = task_of(**more)(context, shares_of(trains[rank], tunes[rank] if tunes is not None else None))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def predictions(stored, batch, encoding=BOTH):
    return load_predictor("catboost", stored, threads=1).predict(encoding.matrix(batch))


def rmse(stored, batch, encoding=BOTH):
    return float(np.sqrt(np.mean((predictions(stored, batch, encoding) - batch.column("y").to_numpy()) ** 2)))


def plain(batches, encoding=BOTH, *, rounds=20, seed=7, weight=None, **params):
    """CatBoost by itself on strings, rows in the order of the engine's."""
    rows = read_rows([lambda: iter(batches)], encoding, TargetScale("y"), weight)
    frame = pd.DataFrame(np.array(rows.matrix[:, : rows.numbers]))
    for position in range(rows.numbers, rows.matrix.shape[1]):
        frame[position] = [str(int(code)) if code == code else "-1" for code in rows.matrix[:, position]]
    categorical = list(range(rows.numbers, rows.matrix.shape[1]))
    pool = catboost.Pool(frame, rows.label, weight=rows.weight, cat_features=categorical)
    settings = {"loss_function": "RMSE", "depth": 6, "learning_rate": 0.05, "random_seed": seed, **QUIET, **params}
    model = catboost.CatBoost({**settings, "iterations": rounds, "thread_count": 1})
    return model.fit(pool), frame, rows


class ByAge:
    """Rows count what their age says."""

    columns = ("age",)

    def __call__(self, batch):
        return batch.column("age").to_numpy().astype(np.float32)
