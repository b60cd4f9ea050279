"""Consumes a barrier stage's ranks, produces sums over all of them: PyTorch's gloo between executors.

Rank 0 opens a store and tells the others its port through Spark's barrier, so that a stage that Spark tries again gets
one of its own. The group is an object, not the process's own: nothing of it outlives the training.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import NeighbourLost
from assay.model.neural_inputs import Floats
from assay.runtime.barrier import RankContext

PATIENCE = dt.timedelta(minutes=30)  # a rank may read much more than its neighbours; a lost one is noticed at once


class Group:
    """Ranks that add up what each of them has. Alone, what one has is the sum."""

    def __init__(self, rank: int = 0, ranks: int = 1, process_group: Any = None) -> None:
        self.rank = rank
        self.ranks = ranks
        self._group = process_group

    def sum(self, values: Floats) -> Floats:
        """Sums over ranks, of the same shape; every rank gets the same."""
        return self._reduced(values, "SUM")

    def greatest(self, values: Floats) -> Floats:
        """Greatest of all ranks, of the same shape."""
        return self._reduced(values, "MAX")

    def sum_tensor(self, tensor: Any) -> Any:
        """A tensor on the CPU, summed over ranks in place."""
        if self.ranks > 1:
            self._wait(tensor, "SUM")
        return tensor

    def of_first(self, stored: bytes) -> bytes:
        """What rank 0 has."""
        if self.ranks == 1:
            return stored
        mine = stored if self.rank == 0 else b""
        size = int(self.sum(np.array([float(len(mine))]))[0])
        import torch

        given = torch.zeros(size, dtype=torch.uint8)
        if mine:
            given += torch.frombuffer(bytearray(mine), dtype=torch.uint8)
        self._wait(given, "SUM")
        return bytes(given.numpy())

    def leave(self) -> None:
        """Close the connections, which tells the others; only the last reference to PyTorch's group going does so."""
        self._group = None

    def _reduced(self, values: Floats, how: str) -> npt.NDArray[np.float64]:
        if self.ranks == 1:
            return values
        import torch

        tensor = torch.from_numpy(np.array(values, dtype=np.float64))
        self._wait(tensor, how)
        found: npt.NDArray[np.float64] = tensor.numpy()
        return found

    def _wait(self, tensor: Any, how: str) -> None:
        import torch.distributed as dist

        options = dist.AllreduceOptions()
        options.reduceOp = getattr(dist.ReduceOp, how)
        try:
            self._group.allreduce([tensor], options).wait()
        except RuntimeError as error:
            raise NeighbourLost(f"rank {self.rank} lost the connection to another rank") from error


@contextlib.contextmanager
def joined(context: RankContext) -> Iterator[Group]:
    """The group of all ranks. Left in a hurry, it lets the others know."""
    if context.ranks == 1:
        yield Group()
        return
    import torch.distributed as dist

    store = None
    if context.rank == 0:
        store = dist.TCPStore(context.host, 0, None, True, PATIENCE, wait_for_workers=False)
    told = json.loads(context.gather(json.dumps([context.host, store.port if store is not None else 0]))[0])
    try:
        store = store or dist.TCPStore(*told, None, False, PATIENCE)
        options = dist.ProcessGroupGloo._Options()
        options._devices = [dist.ProcessGroupGloo.create_device(hostname=context.host)]
        options._timeout = PATIENCE
        made = dist.ProcessGroupGloo(dist.PrefixStore("assay", store), context.rank, context.ranks, options)
    except RuntimeError as error:
        raise NeighbourLost(f"rank {context.rank} did not find the others") from error
    group = Group(context.rank, context.ranks, made)
    del made
    try:
        yield group
    except BaseException:
        group.leave()
        raise
    # Others may still be reading what was sent last, and the store is theirs too.
    context.at_the_end.callback(lambda *_: None, group, store)
