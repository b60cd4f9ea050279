"""Consumes rows with missing inputs, produces rows without any to learn from, and boosters that take them as missing.

One missing value makes XGBoost keep every bin of a matrix in four bytes instead of one and look each of them up by its
row: rounds take 1.5 to 2 times as long, and every history has a beginning. So a missing number is learned from as the
lowest one and a missing category as one more, as CatBoost does. Afterwards each split of the booster sends what is
missing where it sent that value: whoever loads the booster predicts from rows as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.model.encoding import Encoding, Matrix

LOWEST = np.float32(-1e38)  # a bin reaches as far again below it and is still finite
Fills = npt.NDArray[np.float32]


def fills_of(encoding: Encoding, params: Mapping[str, Any]) -> Fills:
    """What replaces a missing value of each input, (features,); NaN where it stays missing.

    An input that has to be monotone keeps its missing values: as the lowest ones they would have to predict the least.
    So do all where the booster is none of trees, or where `monotone_constraints` is not a list as long as the inputs.
    """
    fills = np.full(len(encoding.features), LOWEST)
    first = len(encoding.numeric)
    fills[first:] = [len(known) for known in encoding.categories.values()]
    signs = _signs(params.get("monotone_constraints", ""))
    if params.get("booster", "gbtree") != "gbtree" or (signs and len(signs) != len(fills)):
        return np.full_like(fills, np.nan)
    if signs:
        fills[[sign not in ("0", "+0", "-0") for sign in signs]] = np.nan
    return fills


def _signs(told: Any) -> list[str]:
    text = told if isinstance(told, str) else json.dumps(told)
    return [sign.strip() for sign in text.strip("()[] ").split(",") if sign.strip()]


def fill(matrix: Matrix, fills: Fills) -> None:
    """Replace missing values of (n, features), in place."""
    np.copyto(matrix, fills, where=np.isnan(matrix))


def as_missing(booster: Any, fills: Fills) -> bytes:
    """The booster in XGBoost's ubj format, with missing values sent where `fills` were; that of an input that has
    none stays as it was learned.
    """
    import xgboost as xgb

    if np.isnan(fills).all():
        return bytes(booster.save_raw(raw_format="ubj"))
    tree = json.loads(booster.save_raw(raw_format="json"))
    for nodes in tree["learner"]["gradient_booster"]["model"]["trees"]:
        _direct(nodes, fills)
    told = xgb.Booster()
    told.load_model(bytearray(json.dumps(tree).encode()))
    return bytes(told.save_raw(raw_format="ubj"))


def _direct(nodes: dict[str, Any], fills: Fills) -> None:
    """Set `default_left` of one tree. Categories of a split go right, all others left."""
    value = fills[nodes["split_indices"]]
    left = value < np.asarray(nodes["split_conditions"], dtype=np.float32)
    for node, first, size in zip(
        nodes["categories_nodes"], nodes["categories_segments"], nodes["categories_sizes"], strict=True
    ):
        left[node] = int(value[node]) not in nodes["categories"][first : first + size]
    told = np.asarray(nodes["default_left"])
    nodes["default_left"] = np.where(np.isnan(value), told, left).astype(int).tolist()
