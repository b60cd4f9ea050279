"""The one rule set of all configuration dataclasses: unknown keys, NaN and silent coercions are errors."""

from __future__ import annotations

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True, str_strip_whitespace=False)
