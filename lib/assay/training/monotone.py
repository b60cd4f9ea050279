"""Consumes `engine.monotone`, produces the direction of each constrained input, or one plain message."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from assay.config.dataset import stored_name
from assay.config.strict import nearest
from assay.errors import ConfigError
from assay.model.encoding import Encoding


def directions(monotone: Mapping[str, int], encoding: Encoding, left_out: Collection[str] = ()) -> dict[str, int]:
    """Inputs by their own names -> 1 (predictions never fall as it rises) or -1 (never rise).

    left_out: inputs that were not selected; what a model does not see moves nothing.

    Raises:
        ConfigError: a name is no numeric input; says the nearest one.
    """
    found: dict[str, int] = {}
    for name, direction in monotone.items():
        if not {name, stored_name(name)}.isdisjoint(left_out):
            continue
        feature = name if name in encoding.features else stored_name(name)
        if feature in encoding.categories:
            raise ConfigError(f"engine.monotone.{name}: this input is a category, which has no order")
        if feature not in encoding.numeric:
            raise ConfigError(
                f"engine.monotone.{name}: there is no such numeric input{nearest(name, encoding.numeric)}"
            )
        found[feature] = direction
    return found
