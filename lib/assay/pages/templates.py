"""Consumes a package with templates, produces what reads and fills them; all may include `style.html.j2`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from assay.pages import formats

COMMON: tuple[Callable[..., str], ...] = (
    formats.number,
    formats.percent,
    formats.count,
    formats.day,
    formats.readable,
    formats.share,
    formats.points,
    formats.period,
    formats.duration,
)


def templates(package: str, filters: Iterable[Callable[..., Any]] = ()) -> Environment:
    """Templates of a package, read through the import system, as from a zip on a cluster.

    filters: functions that templates may use by their names, besides the formats of numbers.
    """
    found = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("assay.pages", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update({function.__name__: function for function in (*COMMON, *filters)})
    return found
