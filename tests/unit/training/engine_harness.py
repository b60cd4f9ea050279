"""Produces invented labelled rows and a plane without Spark, for the contract that every engine keeps.

The plane carries tasks to its ranks as Spark does, as bytes, and runs the ranks of one stage at once, in threads.
"""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import numpy as np
import pyarrow as pa

from assay.model.bundle import Model
from assay.model.encoding import Encoding
from assay.model.scale import TargetScale
from assay.training.engine import FitRequest, engine_named
from thread_ranks import Ranks

CITIES = ("Austin", "Dallas", "Waco")
INPUTS = Encoding(("size", "age"), {"city": CITIES})
WINDOWED = ("lstm", "gru")  # engines that need a past of every row
LAGS = ("past__own__lag_1", "past__own__lag_2")


def labelled(rows, seed=0, *, noise=0.1, first=0):
    """A batch with two numbers, one of them missing now and then, a category, and an outcome of all of them."""
    random = np.random.default_rng(seed)
    size, age, city = random.normal(size=rows), random.normal(size=rows), random.choice(CITIES, rows)
    y = 20 + 3 * size - age + 5 * (city == "Austin") + noise * random.normal(size=rows)
    age[random.random(rows) < 0.1] = np.nan
    missing = np.where(random.random(rows) < 0.05, None, city).tolist()
    heavy = random.choice([0.0, 1.0, 2.0], rows)
    past = random.normal(size=(len(LAGS), rows)) + 50  # tells nothing of the outcome
    past[1, random.random(rows) < 0.1] = np.nan
    return pa.record_batch(
        {
            "row_id": pa.array(np.arange(first, first + rows)),
            "size": pa.array(size.astype(np.float32)),
            "age": pa.array(age.astype(np.float32)),
            "city": pa.array(missing, pa.string()),
            "heavy": pa.array(heavy.astype(np.float32)),
            **{name: pa.array(values.astype(np.float32)) for name, values in zip(LAGS, past, strict=True)},
            "y": pa.array(y),
        }
    )


def changed(batch, **columns):
    """The batch with other columns."""
    for name, values in columns.items():
        column = values if isinstance(values, pa.Array) else pa.array(values, batch.schema.field(name).type)
        batch = batch.set_column(batch.schema.names.index(name), name, column)
    return batch


@dataclasses.dataclass(frozen=True)
class Heavy:
    """Weights as a column says them."""

    columns: tuple[str, ...] = ("heavy",)

    def __call__(self, batch):
        return batch.column("heavy").to_numpy().astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Listed:
    """A flow of batches that are there already."""

    batches: list

    def share(self, rank, ranks):
        return lambda: iter(self.batches[rank::ranks])


class LocalPlane:
    """A plane whose ranks are threads. It cannot be pickled, as Spark's cannot."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked_for = []

    def train(self, reads, task, ranks):
        """Every rank gets a copy of the task, which went through bytes."""
        self.asked_for.append(ranks)
        carried, meeting = cloudpickle.dumps(task), Ranks(ranks)

        def run(rank):
            return cloudpickle.loads(carried)(meeting.context(rank), [flow.share(rank, ranks) for flow in reads])

        with ThreadPoolExecutor(ranks) as pool:
            return list(pool.map(run, range(ranks)))


def fit(
    engine,
    train,
    *,
    tune=None,
    encoding=INPUTS,
    scale=None,
    params=None,
    rounds=30,
    refit=False,
    seed=7,
    ranks=1,
    plane=None,
    **more,
):
    """Learn from lists of batches: (what the engine says, the model). `more` is for the request.

    Engines that read windows get the lags of a column that tells nothing beside the inputs.
    """
    engine = engine_named(engine) if isinstance(engine, str) else engine
    if engine.name in WINDOWED and not any("__own__lag_" in name for name in encoding.numeric):
        encoding = dataclasses.replace(encoding, numeric=(*encoding.numeric, *LAGS))
    request = FitRequest(
        train=Listed(train),
        tune=Listed(tune) if tune is not None else None,
        encoding=encoding,
        scale=scale or TargetScale("y"),
        params=params or {},
        rounds=rounds,
        early_stopping_rounds=10 if tune is not None else 0,
        refit=refit,
        seed=seed,
        ranks=ranks,
        threads=1,
        driver_host="127.0.0.1",
        **more,
    )
    result = engine.fit(plane or LocalPlane(), request, lambda number, metrics: None)
    return result, Model(engine.name, result.stored, encoding, request.scale, {}, "", {})


def rmse(model, batch):
    """Error on the model's scale."""
    truth, found = model.residual_inputs(batch)
    return float(np.sqrt(np.mean((truth - found) ** 2)))
