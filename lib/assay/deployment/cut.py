"""Consumes the entities of recent rows, produces the place below which they are the challenger's: a share of them.

A hash alone would give a canary of 5 % one of 20 entities on average, and in every third deployment none. So the place
is laid where the share of the entities that are there lies below it, and no more.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.config.dataset import stored_name
from assay.model.arms import places_of
from assay.model.deployments import Deployment
from assay.runtime.conditions import Condition
from assay.runtime.job import JobContext
from assay.runtime.tables import FEATURES

BINS = 1 << 16  # in which places are counted: few entities have one each, of many all bins have some


@dataclasses.dataclass(frozen=True)
class Cut:
    """below: the place.  its: how many of the entities are below it (of very many: bins of them), of how many."""

    below: float
    its: int
    entities: int


@dataclasses.dataclass(frozen=True)
class Bins:
    """Kernel: rows of a task -> `bin`, the bins that places of their entities lie in, each once."""

    entity: tuple[str, ...]
    deployment: str

    schema = pa.schema([("bin", pa.int32())])

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Bins of the whole share, rising."""
        found = np.zeros(BINS, dtype=bool)
        for batch in batches:
            found[(places_of(batch, self.entity, self.deployment) * BINS).astype(np.intp)] = True
        yield pa.record_batch([pa.array(np.flatnonzero(found), pa.int32())], schema=self.schema)


def cut_of(context: JobContext, deployment: Deployment, share: float, now: dt.datetime) -> Cut:
    """Where to cut for a share of the entities that had a row in the last `deployment.entity_days` before now."""
    plane, days = context.plane, dt.timedelta(days=deployment.config.entity_days)
    entity = tuple(stored_name(name) for name in context.config.dataset.entity)
    version = context.version(FEATURES.name, made_by="build_features")
    where = [Condition("time", ">=", now - days), Condition("time", "<", now)]
    rows = plane.read(FEATURES.name, version=version, columns=list(entity), where=where)
    kernel = Bins(entity, deployment.deployment_id)
    return cut(rows.map(kernel, kernel.schema).collect().column("bin").to_numpy(), share)


def cut(bins: npt.NDArray[np.int32], share: float) -> Cut:
    """The place below which a share of the bins that have entities lies, rounded down. Without any, it is the share."""
    found = np.unique(bins)
    its = math.floor(Fraction(str(share)) * len(found))
    if not len(found) or its == len(found):
        return Cut(share, its, len(found))
    return Cut((int(found[its - 1]) + 1) / BINS if its else 0.0, its, len(found))
