"""Consumes labels of entities, produces where each stands between 0 and 1: the same place whoever asks, and whenever.

An entity is in the challenger's arm while its place is below one that rises with the challenger's share. So it keeps
its arm as the share grows, and a share that shrinks gives back those who came last. Each deployment has places of its
own: entities that met one challenger are not those that meet the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

PLACES = 1 << 53  # that a float64 tells apart between 0 and 1


def places(entities: Sequence[str], deployment: str) -> npt.NDArray[np.float64]:
    """Places (n,) in [0, 1) of rows, by the label of each row's entity, such as ``store=3|item=7``.

    deployment: what the places belong to. SHA-256 of both, so no library's version and no order of rows moves anybody.
    """
    known: dict[str, float] = {}
    found = (known[e] if e in known else known.setdefault(e, place(e, deployment)) for e in entities)
    return np.fromiter(found, dtype=np.float64, count=len(entities))


def place(entity: str, deployment: str) -> float:
    """Place of one entity."""
    digest = hashlib.sha256(f"{deployment}\0{entity}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / PLACES


def places_of(rows: pa.RecordBatch, entity: Sequence[str], deployment: str) -> npt.NDArray[np.float64]:
    """Places (n,) of rows. entity: their columns that make an entity; one without a value has a label all the same."""
    labels = [
        pc.binary_join_element_wise(
            name, rows.column(name).cast(pa.string()), "=", null_handling="replace", null_replacement=""
        )
        for name in entity
    ]
    joined = labels[0] if len(labels) == 1 else pc.binary_join_element_wise(*labels, "|")
    coded = joined.dictionary_encode()
    of_each = places(coded.dictionary.to_pylist(), deployment)
    return np.take(of_each, np.asarray(coded.indices, dtype=np.intp))
