"""Consumes sizes and settings, produces how many ranks a training is worth where `engine.ranks` leaves it open."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from assay.config.profile import EngineConfig
from assay.runtime.barrier import free_slots
from assay.runtime.memory import PythonMemory
from assay.runtime.session import is_local

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What CatBoost held at its peak, refit included, on 1,100,000 rows of 30 numbers and 0, 2 and 5 categories: values as
# float32 and their bins; categories' statistics in several permutations; labels, predictions, derivatives and leaves.
BYTES_A_NUMBER = 8
BYTES_A_CATEGORY = 120
BYTES_A_ROW = 280

# Ranks of XGBoost send one another the histograms of all nodes each round, as much for few rows as for many: a second
# one was worth it from some 100,000 rows each; on one machine, where it brings no cores and only reads beside the
# first, from a million. What ranks of the others send is small.
ROWS_A_RANK = {"xgboost": 100_000}
ROWS_A_RANK_OF_ONE_MACHINE = {"xgboost": 1_000_000}
ROWS_A_RANK_OF_OTHERS = 20_000
# Threads of XGBoost wait for one another some hundred times a tree. With fewer rows each that takes longer than what
# they share, by far where something else runs on their cores.
ROWS_A_THREAD = 5_000


def ranks_worth(
    engine: EngineConfig, *, train: int, tune: int, numbers: int, categories: int, memory: PythonMemory | None
) -> int:
    """Ranks for so many rows and inputs, at least 1.

    Where ranks learn one model together, one per `engine.min_rows_per_rank` rows of train. CatBoost's learn apart,
    which costs accuracy: one, unless the rows of train and tune need more than `engine.memory_share` of an executor;
    then so many that each fits its part of one, should an executor get a rank for each of its tasks. Ranks on one
    machine (memory is None) have no more memory than a single one, so there CatBoost takes one.
    """
    if engine.name != "catboost":
        usual = ROWS_A_RANK if memory is not None else ROWS_A_RANK_OF_ONE_MACHINE
        least = engine.min_rows_per_rank or usual.get(engine.name, ROWS_A_RANK_OF_OTHERS)
        return max(1, math.ceil(train / least))
    needed = catboost_bytes(train + tune, numbers, categories)
    if memory is None or needed <= engine.memory_share * memory.executor:
        return 1
    return math.ceil(needed / (engine.memory_share * memory.executor / memory.tasks))


def threads_each(session: SparkSession, tasks: int) -> int:
    """Threads of each of so many tasks that run at once: `spark.task.cpus`; on one machine a share of all its cores."""
    cpus = int(session.conf.get("spark.task.cpus", "1"))
    if not is_local(str(session.conf.get("spark.master", ""))):
        return cpus
    return max(cpus, free_slots(session.sparkContext, 1) * cpus // tasks)


def threads_worth(engine: str, *, rows: int, threads: int) -> int:
    """Threads that a rank takes of those it may have."""
    return max(1, min(threads, rows // ROWS_A_THREAD)) if engine == "xgboost" else threads


def catboost_bytes(rows: int, numbers: int, categories: int) -> int:
    """What CatBoost needs to learn from so many rows, measured."""
    return rows * (BYTES_A_NUMBER * numbers + BYTES_A_CATEGORY * categories + BYTES_A_ROW)
