"""Consumes a seed and the numbers of rows, produces random numbers of exactly these rows, whoever asks for them.

Philox (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3") is a function of key and counter, so that
number i of a stream needs none of those before it: tasks and blocks can be cut anywhere.
"""

from __future__ import annotations

import numpy as np

WORDS = 4  # that Philox makes of one counter


def uniforms(seed: int, stream: int, start: int, stop: int) -> np.ndarray:
    """Numbers start <= i < stop of a stream, uniform on the open interval (0, 1); float64, shape (stop - start,)."""
    first = start // WORDS
    key = np.array([seed, stream], dtype=np.uint64)
    counter = np.array([first, 0, 0, 0], dtype=np.uint64)
    # Raw words, because what NumPy makes of them may change with its version.
    words = np.random.Philox(key=key, counter=counter).random_raw(stop - first * WORDS)[start - first * WORDS :]
    return ((words >> np.uint64(12)) + 0.5) * 2.0**-52


def normals(seed: int, stream: int, start: int, stop: int) -> np.ndarray:
    """Numbers start <= i < stop of a stream, standard normal; float64, shape (stop - start,)."""
    from scipy.special import ndtri

    found: np.ndarray = ndtri(uniforms(seed, stream, start, stop))
    return found
