"""Consumes the command line of `./spark-submit.sh pack`, produces a folder that runs assay elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from assay.config.options import Json
from assay.runtime.failures import failures_told


def pack(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder to write; an older packed folder is replaced.")
    ] = Path("dist/assay"),
    extra: Annotated[
        list[str] | None, typer.Option("--extra", metavar="NAME", help="An extra of assay, e.g. demo. Repeatable.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without", metavar="NAME", help="A library that your jobs do without, e.g. catboost. Repeatable."
        ),
    ] = None,
    compression: Annotated[
        int, typer.Option("--compression", min=0, max=9, help="Of the libraries: 0 is quickest, 9 smallest.")
    ] = 4,
    as_json: Json = False,
) -> None:
    """Put assay, its libraries, Spark for the driver, Delta's jars and the settings into one folder.

    `DIR/run.sh JOB ...` then runs there as here, wherever the folder lies, on machines of this kind (operating system,
    processor) with this version of Python and Java; executors of a cluster get the libraries from the folder.
    """
    from assay.packing.folder import LAUNCHER
    from assay.packing.folder import pack as packed_into

    with failures_told("pack", as_json, lambda: None):
        packed = packed_into(
            out,
            extras=extra or (),
            without=without or (),
            level=compression,
            say=lambda line: print(f"assay: {line}", file=sys.stderr, flush=True),
        )
    for name, size in packed.sizes.items():
        print(f"{size / 1e6:>9,.1f} MB  {packed.folder / name}")
    print(f"run it: {packed.folder / LAUNCHER} JOB ...")
    if as_json:
        told = {"job": "pack", "status": "done", "folder": str(packed.folder), "libraries": packed.libraries}
        print(json.dumps({**told, "bytes": packed.sizes}), flush=True)


if __name__ == "__main__":
    typer.run(pack)
