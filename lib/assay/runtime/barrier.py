"""Consumes one share of work per rank, produces each rank's result: a barrier stage, where all ranks run at once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assay.runtime.workers import prepare_worker

if TYPE_CHECKING:
    from pyspark import SparkContext


@dataclasses.dataclass(frozen=True)
class RankContext:
    """Who a rank is, and how it talks with the others.

    gpus: addresses that the cluster gave to this task, empty without GPUs. cpus: `spark.task.cpus`.
    host: address of this rank's executor. gather: hands a text to all ranks and returns theirs, in order of rank.
    """

    rank: int
    ranks: int
    gpus: tuple[str, ...]
    cpus: int
    host: str
    gather: Callable[[str], list[str]]


Batches = Callable[[], Iterator[pa.RecordBatch]]
QUIET_SECONDS = 5.0  # executors of one application come within moments of each other
PATIENCE_SECONDS = 60.0


def free_slots(spark: SparkContext, wanted: int) -> int:
    """Tasks of a barrier stage that fit at once, by cores and GPUs; on a cluster after executors had time to come.

    Returns as soon as `wanted` fit, or when no executor has come for 5 seconds, at the latest after a minute.
    """
    started = changed = time.monotonic()
    slots = _slots_now(spark)
    while slots < wanted and not spark.master.startswith("local"):
        now = time.monotonic()
        if now - started > PATIENCE_SECONDS or (slots and now - changed > QUIET_SECONDS):
            break
        time.sleep(0.25)
        found = _slots_now(spark)
        if found != slots:
            slots, changed = found, time.monotonic()
    return slots


def _slots_now(spark: SparkContext) -> int:
    # Spark's own figure for barrier stages. `defaultParallelism` knows no GPUs and says 2 before executors are there.
    scala = spark._jsc.sc()
    return int(scala.maxNumConcurrentTasks(scala.resourceProfileManager().defaultResourceProfile()))


def run_barrier(
    spark: SparkContext, work: Sequence[Any], task: Callable[[RankContext, list[Batches]], Any]
) -> list[Any]:
    """Run `task` once per item of `work`, all at the same time; results in order of rank.

    An item is a tuple with, for each flow, (source, kernels). Spark retries the whole stage when one rank is lost.
    """

    def each(items: Iterator[Any]) -> Iterator[Any]:
        from pyspark import BarrierTaskContext

        prepare_worker()
        context = BarrierTaskContext.get()
        (mine,) = items  # read to the end, or Spark takes the worker for broken and starts a new one for the next task
        yield task(rank_context(context, len(work)), [_restartable(source, kernels) for source, kernels in mine])

    return list(spark.parallelize(list(work), len(work)).barrier().mapPartitions(each).collect())


def rank_context(context: Any, ranks: int) -> RankContext:
    """What Spark says of this task."""
    resources = context.resources()
    gpus = tuple(resources["gpu"].addresses) if "gpu" in resources else ()
    rank = int(context.partitionId())
    return RankContext(
        rank=rank,
        ranks=ranks,
        gpus=gpus,
        cpus=max(1, int(context.cpus() or 1)),
        host=str(context.getTaskInfos()[rank].address).rsplit(":", 1)[0],
        gather=context.allGather,
    )


def _restartable(source: Any, kernels: Sequence[Any]) -> Batches:
    def batches() -> Iterator[pa.RecordBatch]:
        stream: Iterator[pa.RecordBatch] = source.batches()
        for kernel in kernels:
            stream = kernel(stream)
        return stream

    return batches
