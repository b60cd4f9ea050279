"""Consumes headings and rows of text, produces a table on standard output, as wide as the terminal or 200 columns."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def table(headings: Sequence[str], rows: Iterable[Iterable[str]], *, numbers: Collection[str] = ()) -> Table:
    """A table for people. numbers: headings of columns that are aligned to the right."""
    from rich import box
    from rich.table import Table

    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, highlight=False)
    for heading in headings:
        found.add_column(heading, overflow="fold", justify="right" if heading in numbers else "left")
    for row in rows:
        found.add_row(*row)
    return found


def show(found: Table) -> None:
    """Print it, brackets and all: a name is no markup."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(found)
