"""Consumes the command line of `assay tables`, produces what tables there are, and what each of their columns means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.config.options import Json
from assay.runtime.failures import failures_told
from assay.runtime.printed import show, table
from assay.runtime.session import SparkSettings

if TYPE_CHECKING:
    from assay.runtime.tables import Table

NAME = "tables"
PURPOSE = "What is in a workspace's tables, what they were made of, and what each column means."
NUMBERS = ("rows", "files", "MB", "version")
OF_DATA = "(of the data)"  # a column that the dataset or its features add


def _begins(incomplete: str) -> list[str]:
    """Tables whose names begin so, for shells that complete them."""
    return [one.name for one in _all() if one.name.startswith(incomplete)]


def tables(
    name: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="List the columns of this one.", autocompletion=_begins)
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option("--workspace", metavar="DIR", help="Where jobs ran. Without it: what assay knows of its tables."),
    ] = None,
    master: Annotated[
        str | None, typer.Option("--master", metavar="URL", help="Spark master, where Spark has to read the tables.")
    ] = None,
    conf_file: Annotated[
        Path | None, typer.Option("--conf-file", metavar="FILE", help="Spark settings file, likewise.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what tables a workspace has, or what the columns of one are.

    Of each table: rows, files, size, version, the job that wrote it last, when, and which versions of other tables that
    write was made from. Of each column: its type and what it means, which Delta keeps as a comment, too.

    Reads: the tables and `mlflow.db` of the workspace; by Spark, where `runtime.lake` is another file system.

    Writes: nothing.

    Example:  `assay tables predictions`
    """
    settings = SparkSettings(master, conf_file)
    with failures_told(NAME, as_json, lambda: workspace):
        if name is not None:
            columns = _columns(name, workspace, settings)
            found: dict[str, Any] = {"table": name, "columns": columns}
            lines = table(("column", "type", "meaning"), (one.values() for one in columns))
        elif workspace is not None:
            rows = _stored(workspace, settings)
            found = {"workspace": str(workspace), "tables": rows}
            lines = table(
                ("table", "rows", "files", "MB", "version", "written by", "at", "made from"),
                _lines(rows),
                numbers=NUMBERS,
            )
        else:
            declared = [_declared(one) for one in _all()]
            found = {"tables": declared}
            lines = table(
                ("table", "written by", "one row is"), ((o["table"], o["stage"], o["grain"]) for o in declared)
            )
    show(lines)
    if as_json:
        print(json.dumps({"job": NAME, **found}), flush=True)


def _all() -> Sequence[Table]:
    from assay.workspace import DECLARED

    return list(DECLARED.values())


def _declared(one: Table) -> dict[str, Any]:
    return {"table": one.name, "stage": one.stage, "grain": one.grain, "key": list(one.key)}


def _columns(name: str, workspace: Path | None, settings: SparkSettings) -> list[dict[str, str]]:
    """column, type and meaning of each column of a table: as it is there, or as it is declared."""
    from assay.config.strict import nearest
    from assay.errors import UserError
    from assay.workspace import DECLARED, Workspace

    if workspace is not None:
        rows = Workspace(workspace, settings).columns(name).fill_null(OF_DATA).to_dicts()
        return [{key: str(value) for key, value in row.items()} for row in rows]
    if name not in DECLARED:
        raise UserError(f"no table {name!r}" + (nearest(name, DECLARED) or f"; there are {', '.join(DECLARED)}"))
    return [
        {"column": column, "type": str(kind), "meaning": meaning}
        for column, (kind, meaning) in DECLARED[name].columns.items()
    ]


def _stored(workspace: Path, settings: SparkSettings) -> list[dict[str, Any]]:
    """Tables of a workspace, and what their newest writes were made from."""
    from assay.workspace import Workspace

    opened = Workspace(workspace, settings)
    rows = opened.tables().drop("grain", "stage").to_dicts()
    made_from = opened.made_from([row["identity"] for row in rows if row["identity"]])
    return [
        {
            **row,
            "written_at": row["written_at"].isoformat(timespec="seconds"),
            "made_from": made_from.get(row["identity"], []),
        }
        for row in rows
    ]


def _lines(rows: Iterable[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    for row in rows:
        at = row["written_at"][:16].replace("T", " ")
        counts = (f"{row['rows']:,}", f"{row['files']:,}", f"{row['bytes'] / 1e6:,.1f}", str(row["version"]))
        yield (row["table"], *counts, row["written_by"] or "", at, ", ".join(row["made_from"]))
