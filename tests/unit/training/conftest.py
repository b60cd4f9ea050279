"""Produces invented labelled rows and one rank of XGBoost on them, for the tests of the engine without Spark."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from assay.model.encoding import Encoding
from assay.model.scale import TargetScale
from assay.runtime.barrier import RankContext, outcome
from assay.training.xgboost_engine import RankTask
from assay.training.xgboost_params import resolve

CITIES = ("Austin", "Dallas", "Waco")


def labelled_rows(rows, seed=0, *, cities=CITIES, noise=0.1):
    """A batch with a number, a category and an outcome that depends on both."""
    random = np.random.default_rng(seed)
    size, city = random.normal(size=rows).astype(np.float32), random.choice(cities, rows)
    y = 3 * size + 5 * (city == "Austin") + noise * random.normal(size=rows)
    return pa.record_batch({"size": pa.array(size), "city": pa.array(city, pa.string()), "y": pa.array(y)})


def rank_task(
    encoding=None, scale=None, params=None, monotone=None, rounds=20, stopping=0, refit=False, seed=7, **more
):
    """What a rank does; `more` is for the task."""
    encoding = encoding or Encoding(("size",), {"city": CITIES})
    return RankTask(
        encoding=encoding,
        scale=scale or TargetScale("y"),
        params=resolve(params or {}, encoding, seed=seed, rounds=rounds, monotone=monotone),
        rounds=rounds,
        early_stopping_rounds=stopping,
        refit=refit,
        **{"address": None, "threads": 1, **more},
    )


def fit_rank(train, *, tune=None, **settings):
    """Train as a lone rank does; train and tune are lists of batches."""
    shares = [lambda: iter(train)] + ([lambda: iter(tune)] if tune is not None else [])
    context = RankContext(rank=0, ranks=1, gpus=(), cpus=1, host="127.0.0.1", gather=lambda text: [text])
    return rank_task(**settings)(context, shares)


@pytest.fixture(name="rows")
def rows_factory():
    return labelled_rows


@pytest.fixture(name="fit")
def fit_factory():
    return fit_rank


@pytest.fixture(name="fit_ranks")
def fit_ranks_factory(ranks):
    """Train several ranks: fit_ranks(train, tune=...) with lists of batches per rank -> what each rank returns."""

    def fit(train, *, tune=None, **settings):
        flows = [train] + ([tune] if tune is not None else [])
        shares = [[lambda part=flow[rank]: iter(part) for flow in flows] for rank in range(len(train))]
        return outcome(ranks(len(train)).run(rank_task(**settings), shares))

    return fit
