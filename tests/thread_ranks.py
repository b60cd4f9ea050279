"""Produces ranks that run as threads of this process, in place of a barrier stage: for unit tests and benchmarks."""

from __future__ import annotations

import concurrent.futures
import threading

from assay.runtime.barrier import RankContext, run_rank

PATIENCE_SECONDS = 60


class Ranks:
    """So many ranks; a gather returns when all of them have called it, as in Spark's barrier."""

    def __init__(self, count):
        self.texts = [""] * count
        self.barrier = threading.Barrier(count)

    def context(self, rank):
        """Who a rank is."""

        def gather(text):
            self.texts[rank] = text
            self.barrier.wait(PATIENCE_SECONDS)
            found = list(self.texts)
            self.barrier.wait(PATIENCE_SECONDS)
            return found

        return RankContext(rank=rank, ranks=len(self.texts), gpus=(), cpus=1, host="127.0.0.1", gather=gather)

    def run(self, task, shares=None):
        """What each rank's task returns or raises; shares: per rank, a callable per flow."""

        def one(rank):
            try:
                return run_rank(self.context(rank), shares[rank] if shares else [], task, stop_seconds=0)
            except Exception as error:
                return error

        with concurrent.futures.ThreadPoolExecutor(len(self.texts)) as pool:
            return list(pool.map(one, range(len(self.texts))))
