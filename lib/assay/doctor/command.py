"""Consumes the command line of `assay doctor`, produces findings as a table, advice, and an exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from assay.config import RunConfig, candidates, load_run
from assay.config.options import ConfFile, Json, Profile
from assay.doctor.findings import Finding, refused
from assay.errors import EXIT_USER_ERROR, ConfigError, UserError
from assay.runtime.failures import failures_told
from assay.runtime.printed import show, table
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings

NAME = "doctor"
PURPOSE = "Whether jobs will run here, and what to do where they will not."


def doctor(
    dataset: Annotated[
        Path | None,
        typer.Option("--dataset", metavar="FILE", help="Look at this dataset's source, workspace and MLflow, too."),
    ] = None,
    profile: Profile = "production",
    workspace: Annotated[
        Path | None,
        typer.Option("--workspace", metavar="DIR", help="Where jobs will run. Default: workspace/NAME-OF-DATASET."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change any setting, e.g. runtime.tracking_uri=http://HOST:PORT. Needs --dataset. May be repeated.",
            autocompletion=candidates.settings,
        ),
    ] = None,
    master: Annotated[
        str | None,
        typer.Option("--master", metavar="URL", help="Spark master whose executors are asked, e.g. spark://HOST:7077."),
    ] = None,
    conf_file: ConfFile = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not start Spark: some two seconds.")] = False,
    as_json: Json = False,
) -> None:
    """Check whether jobs will run here, and say what to do where they will not.

    Looks at Python and its libraries, Java, Delta's jars, memory, cores, disks and GPUs; starts Spark, asks a task on
    each executor what it sees, and writes and reads a small table both ways. With a dataset: can its source be read,
    are its columns there, what are its first rows like; whose is the workspace, and can the MLflow store be used?

    Exit code 0 where nothing has to be put right, else 2.

    Reads: the machine; the dataset's source, and its MLflow store.

    Writes: nothing that stays.

    Example:  `assay doctor --dataset conf/datasets/txhousing.yml`
    """
    from assay.doctor.examination import Asked, examine
    from assay.runtime.logs import set_up_logging

    set_up_logging()
    reporter = Reporter()
    with failures_told(NAME, as_json, lambda: None):
        if set_ and dataset is None:
            raise UserError("--set changes the settings of a dataset's jobs: give --dataset, too")
        settings = SparkSettings(master, conf_file)
        found, config = _configured(dataset, profile, workspace, set_ or ())
        folder = config.workspace if config is not None else workspace.absolute() if workspace is not None else None
        found += examine(Asked(settings, config, folder, quick), reporter)
    _print(found)
    status = "failed" if any(one.status == "fail" for one in found) else "done"
    if as_json:
        told = {"job": NAME, "status": status, "findings": [one.as_dict() for one in found]}
        print(json.dumps(told, ensure_ascii=False), flush=True)
    if status == "failed":
        raise SystemExit(EXIT_USER_ERROR)


def _configured(
    dataset: Path | None, profile: str, workspace: Path | None, overrides: Sequence[str]
) -> tuple[list[Finding], RunConfig | None]:
    """The configuration; where it cannot be, the rest of the examination still is worth its while."""
    if dataset is None:
        return [], None
    try:
        return [], load_run(dataset=dataset, profile=profile, workspace=workspace, overrides=overrides)
    except ConfigError as error:
        return [refused("configuration", error, f"correct {dataset}, or what --set says")], None


def _print(found: Sequence[Finding]) -> None:
    """All of them as a table, then a line of advice for each that asks for something."""
    show(table(("", "check", "found"), ((one.status, one.check, one.told) for one in found)))
    for one in found:
        if one.todo:
            print(f"{one.status} {one.check}: {one.todo}")
    counts = {status: sum(one.status == status for one in found) for status in ("fail", "warn")}
    print(f"{NAME}: {counts['fail']} to put right, {counts['warn']} to know of, {len(found)} looked at", flush=True)
