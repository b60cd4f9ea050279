"""Consumes codes and the rows that are to be bad, produces cells of the source's columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

MOMENT = pa.timestamp("us", "UTC")
TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclasses.dataclass(frozen=True)
class Bad:
    """Rows, shape (n,), whose numbers break a rule: a text, an infinite one, or `value`, which is out of bounds."""

    text: np.ndarray
    infinite: np.ndarray
    outside: np.ndarray
    value: float


def codes(values: np.ndarray, names: Sequence[str], *, hidden: np.ndarray | None = None) -> pa.DictionaryArray:
    """Texts by their place in `names`, null where they are hidden."""
    indices = pa.array(values.astype(np.int32), mask=hidden)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(names), pa.string()))
