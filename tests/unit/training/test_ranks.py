"""Consumes sizes and settings, checks how many ranks a training takes where `engine.ranks` leaves it open."""

from __future__ import annotations

import numpy as np
import pytest

from assay.config.profile import EngineConfig
from assay.runtime.memory import PythonMemory, of_executor
from assay.training.ranks import catboost_bytes, ranks_worth, threads_worth

GIB = 1 << 30
CATBOOST = EngineConfig(name="catboost")
SIZES = {"train": 9_000_000, "tune": 1_000_000, "numbers": 15, "categories": 0}  # 4,000,000,000 bytes by the estimate


@pytest.mark.parametrize(
    ("engine", "rows", "local"),
    [
        (EngineConfig(min_rows_per_rank=1000), 1000, 1000),
        (EngineConfig(), 100_000, 1_000_000),
        (EngineConfig(name="linear"), 20_000, 20_000),
        (EngineConfig(name="gru"), 20_000, 20_000),
    ],
)
def test_ranks_that_learn_together_are_one_per_so_many_rows_of_train(engine, rows, local):
    for memory, each in ((PythonMemory(GIB, 1), rows), (None, local)):
        for train, ranks in ((1, 1), (each, 1), (each + 1, 2), (9 * each, 9)):
            told = {"train": train, "tune": 10**6, "numbers": 1, "categories": 0}
            assert ranks_worth(engine, **told, memory=memory) == ranks


@pytest.mark.parametrize(
    ("memory", "ranks"),
    [
        (None, 1),
        (PythonMemory(8 * 10**9, 4), 1),  # half of it is just enough
        (PythonMemory(8 * 10**9 - 10, 1), 2),
        (PythonMemory(32 * 10**8, 1), 3),
        (PythonMemory(32 * 10**8, 4), 10),
    ],
    ids=["local mode", "it fits", "it just does not", "three executors", "executors of four tasks"],
)
def test_catboost_takes_one_while_the_rows_fit_an_executor(memory, ranks):
    assert ranks_worth(CATBOOST, **SIZES, memory=memory) == ranks


def test_few_rows_do_not_make_threads_of_xgboost_wait_for_one_another():
    for rows, threads in ((0, 1), (9_999, 1), (10_000, 2), (10**9, 8)):
        assert threads_worth("xgboost", rows=rows, threads=8) == threads
        assert threads_worth("catboost", rows=rows, threads=8) == 8


def test_the_share_of_memory_is_a_setting():
    memory = PythonMemory(6 * 10**9, 1)
    assert ranks_worth(CATBOOST, **SIZES, memory=memory) == 2
    assert ranks_worth(EngineConfig(name="catboost", memory_share=0.9), **SIZES, memory=memory) == 1


def test_categories_cost_more_than_numbers():
    assert catboost_bytes(1000, 0, 1) > catboost_bytes(1000, 10, 0) > np.zeros((1000, 10), np.float32).nbytes


@pytest.mark.parametrize(
    ("settings", "executor", "tasks"),
    [
        ({}, GIB, 1),
        ({"spark.executor.memory": "4g", "spark.executor.cores": "4", "spark.task.cpus": "2"}, 4 * GIB, 2),
        ({"spark.executor.memory": "4g", "spark.executor.memoryOverhead": "6144"}, 6 * GIB, 1),
        ({"spark.executor.memoryOverhead": "6g", "spark.executor.pyspark.memory": "2048MB"}, 2 * GIB, 1),
        ({"spark.executor.memory": "1t", "spark.executor.cores": "1", "spark.task.cpus": "2"}, 1024 * GIB, 1),
    ],
)
def test_memory_of_an_executor_by_its_settings(settings, executor, tasks):
    assert of_executor(settings) == PythonMemory(executor, tasks)
