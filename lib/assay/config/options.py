"""Consumes nothing, produces the options that commands have in common, with what `--help` says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.config import candidates

Dataset = Annotated[Path, typer.Option("--dataset", metavar="FILE", help="Dataset YAML: what the data are.")]
Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="How hard a run tries: production, research, development, or a YAML file of your own.",
        autocompletion=candidates.profiles,
    ),
]
Workspace = Annotated[
    Path | None,
    typer.Option(
        "--workspace", metavar="DIR", help="Folder of tables, MLflow and reports. Default: workspace/NAME-OF-DATASET."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change any setting, e.g. engine.rounds=200. May be repeated.",
        autocompletion=candidates.settings,
    ),
]
Date = Annotated[
    str | None, typer.Option("--date", metavar="DATE", help="Pretend to be at this date: later rows do not exist.")
]
Where = Annotated[
    list[str] | None, typer.Option("--where", metavar="COL=VALUE", help="Only this slice. May be repeated.")
]
Master = Annotated[
    str | None, typer.Option("--master", metavar="URL", help="Spark master, e.g. local[4] or spark://HOST:7077.")
]
ConfFile = Annotated[
    Path | None,
    typer.Option("--conf-file", metavar="FILE", help="Spark settings file. Default: conf/spark/local.conf."),
]
Json = Annotated[bool, typer.Option("--json", help="Make the last line of standard output one JSON object.")]
