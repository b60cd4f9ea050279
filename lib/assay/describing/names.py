"""Consumes a column's name, produces what it hints at. Hints break ties; what a column holds comes first."""

from __future__ import annotations

import re


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


STRONG = _set("target label outcome response churn churned default defaulted fraud survived converted")
WORTH = _set(
    "price prices sales revenue profit margin demand rent wage salary income earnings turnover spend spot cost claim "
    "claims load consumption yield valuation"
)
SOME = _set(
    "y close value amount median mean average total qty quantity units sold move charges fare rate delay score rating"
)
AFTER = _set(
    "sold closed close closing final finalized settled settlement actual realized realised delivered completed "
    "resolved resolution paid returned cancelled canceled refunded outcome result after"
)
KEY = _set("id idno idnum pid key code no number num sku symbol ticker name uuid guid serial ref reference nr")
CODE = _set("zip zipcode postcode postal code id type class category kind cd flag is grade region district")


def words(name: str) -> frozenset[str]:
    """Lower-case words of a name: `totalCharges`, `total_charges` and `Total Charges` have the same two."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return frozenset(re.findall(r"[^\W\d_]+", spaced.casefold()))


def target_hint(name: str) -> float:
    """0 to 4.25: how much a name is like a target's."""
    found = words(name)
    for hints, weight in ((STRONG, 4.0), (WORTH, 2.5), (SOME, 1.0)):
        if found & hints:
            return weight + (0.25 if found & {"adj", "adjusted"} else 0.0)
    return 0.0
