"""Consumes one share of work per rank, produces each rank's result: a barrier stage, where all ranks run at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

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


def run_barrier(
    spark: SparkContext, work: Sequence[Any], task: Callable[[RankContext, list[Batches]], Any]
) -> list[Any]:
    """Run `task` once per item of `work`, all at the same time; results in order of rank.

    An item is a tuple with, for each flow, (source, kernels). Spark retries the whole stage when one rank is lost.
    """

    def each(items: Iterator[Any]) -> Iterator[Any]:
        from pyspark import BarrierTaskContext

        context = BarrierTaskContext.get()
        shares = [_restartable(source, kernels) for source, kernels in next(iter(items))]
        yield task(rank_context(context, len(work)), shares)

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
