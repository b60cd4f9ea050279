"""Runs the fit of a preparation over rows in memory, cut into any number of tasks, without Spark."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa

from assay.config.preparation import PreparationConfig
from assay.config.strict import check
from assay.model.encoding import Encoding
from assay.model.scale import TargetScale
from assay.training.preparation import prepare
from assay.training.preparation_sample import TrainingRows

COLUMNS = ("size", "age", "rooms", "tax", "noise")
KINDS = ("big", "small")


class Tasks:
    """Rows cut into tasks, each of which runs the kernels on its share, as on executors."""

    def __init__(self, shares, schema, kernels=()):
        self.shares, self.schema, self.kernels = shares, schema, kernels

    def map(self, kernel, schema):
        return Tasks(self.shares, schema, (*self.kernels, kernel))

    def collect(self):
        found = []
        for share in self.shares:
            batches = iter(share)
            for kernel in self.kernels:
                batches = kernel(batches)
            found += list(batches)
        return pa.Table.from_batches(found, self.schema)


def training_rows(*periods, tasks=1):
    """TrainingRows over batches, one per period; each task's share comes in two batches."""

    def read(columns):
        flows = []
        for rows in periods:
            kept = rows.select(columns)
            cuts = np.linspace(0, rows.num_rows, 2 * tasks + 1).astype(int)
            parts = [kept.slice(a, b - a) for a, b in itertools.pairwise(cuts)]
            flows.append(Tasks([parts[2 * i : 2 * i + 2] for i in range(tasks)], kept.schema))
        return flows

    return TrainingRows(read, sum(rows.num_rows for rows in periods))


def invented(rows, seed=0, *, missing=0.1, start=0):
    """Numbers of many magnitudes that go together, some missing, one of them noise; a category; an outcome."""
    random = np.random.default_rng(seed)
    common = random.normal(size=rows)
    numbers = {
        "size": 1e6 + 100 * (common + 0.1 * random.normal(size=rows)),
        "age": np.exp(3 * random.normal(size=rows)),
        "rooms": np.rint(3 + common + random.normal(size=rows)),
        "tax": 1e-3 * (common - 0.5 * random.normal(size=rows)),
        "noise": random.normal(size=rows),
    }
    for name in ("size", "age", "rooms", "tax"):
        numbers[name][random.random(rows) < missing] = np.nan
    kind = random.choice(KINDS, rows)
    price = 5 * common + 3 * (kind == "big") + 0.1 * random.normal(size=rows)
    return pa.record_batch(
        {
            "row_id": pa.array(np.arange(start, start + rows) * 7919 - 10**6, pa.int64()),
            **{name: pa.array(values.astype(np.float32), pa.float32()) for name, values in numbers.items()},
            "kind": pa.array(kind.tolist(), pa.string()),
            "price": pa.array(price, pa.float64()),
        }
    )


def settings(**tree):
    """`PreparationConfig` from what a YAML would say."""
    return check(PreparationConfig, tree, origin="test", prefix="preparation")


ENCODING = Encoding(COLUMNS, {"kind": KINDS})


def fit(tree, *periods, tasks=1, again=False, encoding=ENCODING, seed=7):
    """Prepared inputs; with `again`, the first period trains and all of them are fitted again."""
    both = training_rows(*periods, tasks=tasks) if again else None
    train = training_rows(*(periods[:1] if again else periods), tasks=tasks)
    return prepare(settings(**tree), encoding, TargetScale("price"), train, both, seed=seed)


def raw(batch, columns=COLUMNS):
    """Numbers as the model gets them unprepared."""
    return np.column_stack([batch.column(name).to_numpy(zero_copy_only=False) for name in columns])
