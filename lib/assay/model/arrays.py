"""Consumes arrays by name, produces the bytes in which a model keeps them, and back; no pickle either way."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt


def to_bytes(**arrays: Any) -> bytes:
    """Arrays and numbers as npz; equal arrays give equal bytes."""
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    return sink.getvalue()


def from_bytes(stored: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays by name, numbers as arrays without axes.

    Raises:
        ValueError: they hold pickled objects, which are not loaded.
    """
    with np.load(io.BytesIO(stored), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
