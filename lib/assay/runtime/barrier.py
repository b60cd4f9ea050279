"""Consumes one share of work per rank, produces each rank's result: a barrier stage, where all ranks run at once."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assay import extensions
from assay.errors import NeighbourLost, from_worker
from assay.runtime.workers import prepare_worker

if TYPE_CHECKING:
    from pyspark import SparkContext


@dataclasses.dataclass(frozen=True)
class RankContext:
    """Who a rank is, and how it talks with the others.

    gpus: addresses that the cluster gave to this task, empty without GPUs. cpus: `spark.task.cpus`.
    host: address of this rank's executor. gather: hands a text to all ranks and returns theirs, in order of rank.
    at_the_end: closed when all ranks have ended, well or not: for what the others need until then.
    """

    rank: int
    ranks: int
    gpus: tuple[str, ...]
    cpus: int
    host: str
    gather: Callable[[str], list[str]]
    at_the_end: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)


@dataclasses.dataclass(frozen=True)
class Failure:
    """How a rank failed. words: its traceback.  follows: it only lost a neighbour."""

    rank: int
    words: str
    follows: bool


Batches = Callable[[], Iterator[pa.RecordBatch]]
Task = Callable[[RankContext, list[Batches]], Any]
QUIET_SECONDS = 5.0  # executors of one application come within moments of each other
PATIENCE_SECONDS = 60.0
# In which Spark stops those that lost a neighbour, if that one was killed. Stopped while it waits for others in a
# barrier, a task would take its whole executor with it.
STOP_SECONDS = 3.0


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


def run_barrier(spark: SparkContext, work: Sequence[Any], task: Task) -> list[Any]:
    """Run `task` once per item of `work`, all at the same time; results in order of rank.

    An item is a tuple with, for each flow, (source, kernels). Spark tries the whole stage again when a rank is lost
    (`spark.stage.maxConsecutiveAttempts` times in all); what a rank raises ends it at once.
    """

    extended = extensions.carried()

    def each(items: Iterator[Any]) -> Iterator[Any]:
        from pyspark import BarrierTaskContext

        prepare_worker(extended)
        context = BarrierTaskContext.get()
        (mine,) = items  # read to the end, or Spark takes the worker for broken and starts a new one for the next task
        shares = [_restartable(source, kernels) for source, kernels in mine]
        who = rank_context(context, len(work))
        yield who.rank, run_rank(who, shares, task)

    ranks = spark.parallelize(list(work), len(work)).barrier().mapPartitions(each)
    # Spark tries a barrier stage again only where a shuffle comes after it: others may have had side effects already.
    found = ranks.map(lambda pair: (0, pair)).partitionBy(1).values().collect()
    return outcome([result for _, result in sorted(found, key=lambda pair: pair[0])])


def run_rank(context: RankContext, shares: list[Batches], task: Task, *, stop_seconds: float = STOP_SECONDS) -> Any:
    """What the task returns, or how it failed. Runs on an executor; all ranks end together.

    A task that fails in Spark's sense would be tried again, with all others, on a cluster, and the same mistake would
    be made four times. So a failure is a result; only a rank that is killed, or has lost one that was, is tried again.
    """
    meeting = _Meeting(context)
    with context.at_the_end:
        try:
            result = task(dataclasses.replace(context, gather=meeting.gather), shares)
        except Exception as error:
            result = Failure(context.rank, "".join(traceback.format_exception(error)), isinstance(error, NeighbourLost))
            if result.follows:
                time.sleep(stop_seconds)
            if meeting.end(follows=result.follows):
                raise
            return result
        meeting.end(follows=False)
        return result


class _Meeting:
    """Gathers texts of all ranks, and tells of those that have ended. Without it the others would wait forever."""

    def __init__(self, context: RankContext) -> None:
        self._gather, self._over = context.gather, context.ranks == 1
        self._alone = context.ranks == 1

    def gather(self, text: str) -> list[str]:
        if self._alone:
            return [text]
        found = self._ask({"text": text})
        ended = [rank for rank, told in enumerate(found) if "text" not in told]
        if ended:
            self._over = True  # whoever got this answer has got it as we did: there is nobody left to wait for
            raise NeighbourLost(f"rank {ended[0]} ended before the others")
        return [told["text"] for told in found]

    def end(self, *, follows: bool) -> bool:
        """Wait for all to end. Returns whether each of them only lost another, so that nobody knows a reason."""
        return not self._over and all(told.get("follows", False) for told in self._ask({"follows": follows}))

    def _ask(self, told: dict[str, Any]) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self._gather(json.dumps(told))]


def outcome(results: list[Any]) -> list[Any]:
    """The results, unless a rank failed. Runs on the driver.

    Raises:
        AssayError: the one that a rank raised, if it is one of ours.
        RuntimeError: another one; holds its traceback.
    """
    failures = sorted((r for r in results if isinstance(r, Failure)), key=lambda f: (f.follows, f.rank))
    if not failures:
        return results
    first = failures[0]
    error = RuntimeError(f"rank {first.rank} failed: {first.words.strip().splitlines()[-1]}\n{first.words}")
    raise from_worker(error) or error


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
