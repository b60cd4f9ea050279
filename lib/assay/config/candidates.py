"""Consumes the beginning of a word on a command line, produces the profiles or settings that it may become."""

from __future__ import annotations

import re


def profiles(incomplete: str) -> list[str]:
    """Names of profiles that begin so."""
    from assay.config.loader import profile_names

    return [name for name in profile_names() if name.startswith(incomplete)]


def settings(incomplete: str) -> list[str]:
    """Settings that begin so, as `--set` takes them: `engine.rounds=`."""
    from assay.config.overrides import setting_types

    names = [name for name, _ in setting_types()]
    sections = {name[: dot.start()] for name in names for dot in re.finditer(r"\.", name)}
    return [f"{name}=" for name in names if name.startswith(incomplete) and name not in sections]
