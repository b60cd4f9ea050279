"""Consumes nothing, produces `StrEnum`: members that are their own texts, on Python 3.10 as on later ones."""

from __future__ import annotations

import enum
import sys

if sys.version_info >= (3, 11):
    from enum import StrEnum
else:

    class StrEnum(str, enum.Enum):
        """What Python 3.11 brought: `str`, `format` and f-strings give the value."""

        __str__ = str.__str__
        __format__ = str.__format__


__all__ = ["StrEnum"]
