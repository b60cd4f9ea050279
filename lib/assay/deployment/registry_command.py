"""Consumes the command line of `assay registry`, produces answers about registered models, and their new places."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.config.options import Dataset, Json, Overrides, Profile
from assay.runtime.failures import failures_told

if TYPE_CHECKING:
    from assay.deployment.registry_context import Answer
    from assay.runtime.job import JobContext

NAME = "registry"
PURPOSE = "Look at registered models, verify them, change which one serves, remove old ones."
HELP = """Look at registered models, verify them, change which one serves, remove old ones.

A version has a number and a semantic version: another target, task, classes or columns of a prediction make it a new
major one, other features a new minor one, all else a new patch. The **champion** serves; `previous` was it before.

Reads: MLflow's registry; the tables features, predictions, shadow_predictions and deployments where a command asks.

Writes: MLflow's aliases and tags, and the table model_registry.

Example:  `assay registry list --dataset conf/datasets/txhousing.yml`
"""

app = typer.Typer(help=HELP, rich_markup_mode="markdown", add_completion=False)

Target = Annotated[str | None, typer.Option("--target", metavar="NAME", help="Of a dataset with several targets.")]
Workspace = Annotated[
    Path | None,
    typer.Option("--workspace", metavar="DIR", help="Where the pipeline ran. Default: workspace/NAME-OF-DATASET."),
]
Which = Annotated[str, typer.Argument(metavar="VERSION", help="A number, a semantic version or an alias.")]
Other = Annotated[str, typer.Argument(metavar="OTHER", help="Another one.")]


@app.command("list", short_help="All versions, with their state and figures.")
def list_(
    dataset: Dataset,
    target: Target = None,
    workspace: Workspace = None,
    profile: Profile = "production",
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """List all versions, oldest first, with what they are there for and the figures of their test.

    Example:  `assay registry list --dataset conf/datasets/txhousing.yml`
    """
    from assay.deployment.registry_show import listed

    _run("list", lambda context: listed(context, target), dataset, workspace, profile, set_, as_json)


@app.command(short_help="All that is on record of one version.")
def show(
    version: Which,
    dataset: Dataset,
    target: Target = None,
    workspace: Workspace = None,
    profile: Profile = "production",
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """Show where a version comes from: parent, runs, table versions, code, configuration, study; and its figures.

    Example:  `assay registry show champion --dataset conf/datasets/txhousing.yml`
    """
    from assay.deployment.registry_show import shown

    _run("show", lambda context: shown(context, version, target), dataset, workspace, profile, set_, as_json)


@app.command("diff", short_help="What differs between two versions.")
def diff_(
    version: Which,
    other: Other,
    dataset: Dataset,
    target: Target = None,
    workspace: Workspace = None,
    profile: Profile = "production",
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """Tell two versions apart: features, parameters, settings, tables, code, figures of the test, calibration.

    Example:  `assay registry diff previous champion --dataset conf/datasets/txhousing.yml`
    """
    from assay.deployment.registry_diff import diff

    _run("diff", lambda context: diff(context, version, other, target), dataset, workspace, profile, set_, as_json)


@app.command("verify", short_help="Check every file against the hashes on record.")
def verify_(
    dataset: Dataset,
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="A number, a semantic version or an alias; else all.")
    ] = None,
    target: Target = None,
    workspace: Workspace = None,
    profile: Profile = "production",
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """Check every file of a version, or of all, and the models of its training run, against the hashes on record.

    Says for each file what is wrong, and ends with exit code 1 where one is.

    Example:  `assay registry verify --dataset conf/datasets/txhousing.yml`
    """
    from assay.deployment.registry_verify import verify

    _run("verify", lambda context: verify(context, version, target), dataset, workspace, profile, set_, as_json)


@app.command("promote", short_help="Make a version the champion.")
def promote_(
    version: Which,
    dataset: Dataset,
    target: Target = None,
    workspace: Workspace = None,
    profile: Profile = "production",
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """Verify a version and make it the champion; the one before becomes `previous`, and can be promoted again.

    One whose files were changed, that is retired, or that learned from other features than the table has is refused.

    Example:  `assay registry promote 3 --dataset conf/datasets/txhousing.yml`
    """
    from assay.deployment.registry_moves import promote

    _run("promote", lambda context: promote(context, version, target), dataset, workspace, profile, set_, as_json)


@app.command("retire", short_help="Say that nobody shall use a version any more.")
def retire_(
    version: Which,
    dataset: Dataset,
    target: Target = None,
    workspace: Workspace = None,
    profile: Profile = "production",
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """Retire a version: it cannot be promoted any more, and clean-up removes it once nothing needs it.

    One that has an alias, or that a deployment or `scoring.shadows` needs, is refused.

    Example:  `assay registry retire 2 --dataset conf/datasets/txhousing.yml`
    """
    from assay.deployment.registry_moves import retire

    _run("retire", lambda context: retire(context, version, target), dataset, workspace, profile, set_, as_json)


@app.command("cleanup", short_help="Remove old versions that nothing needs.")
def cleanup_(
    dataset: Dataset,
    keep_days: Annotated[
        float | None, typer.Option("--keep-days", min=0, help="Instead of registry.keep_days (90).")
    ] = None,
    keep_versions: Annotated[
        int | None, typer.Option("--keep-versions", min=0, help="Instead of registry.keep_versions (5).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, say what would be removed.")] = False,
    target: Target = None,
    workspace: Workspace = None,
    profile: Profile = "production",
    set_: Overrides = None,
    date: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="Count the age of predictions from this date.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove versions that are retired, or neither new nor recent, with their files and the models of their training.

    Never one that an alias, a deployment, `scoring.shadows`, or a prediction of the last 365 days
    (`registry.keep_predictions_days`) needs. Training runs stay, with a tag that says what was removed.

    Example:  `assay registry cleanup --dataset conf/datasets/txhousing.yml --keep-versions 3`
    """
    from assay.deployment.registry_cleanup import cleanup

    def run(context: JobContext) -> Answer:
        return cleanup(context, target, keep_days=keep_days, keep_versions=keep_versions, yes=yes)

    _run("cleanup", run, dataset, workspace, profile, set_, as_json, date)


COMMANDS = {str(one.name or one.callback.__name__) for one in app.registered_commands if one.callback is not None}


def _run(
    command: str,
    act: Callable[[JobContext], Answer],
    dataset: Path,
    workspace: Path | None,
    profile: str,
    overrides: list[str] | None,
    as_json: bool,
    date: str | None = None,
) -> None:
    """Open the workspace, do it, print it; ends by SystemExit where it did not go well."""
    from assay.config import load_run
    from assay.deployment.registry_context import open_context
    from assay.runtime.logs import set_up_logging
    from assay.runtime.progress import Reporter
    from assay.runtime.session import SparkSettings

    set_up_logging()
    name = f"{NAME} {command}"
    with failures_told(name, as_json, lambda: workspace):
        config = load_run(
            dataset=dataset, profile=profile, workspace=workspace, overrides=overrides or (), date=date, where=()
        )
        workspace = config.workspace
        with contextlib.closing(open_context(config, SparkSettings(), Reporter())) as context:
            answer = act(context)
    for line in answer.lines:
        print(line)
    print(f"{name}: {answer.status}", flush=True)
    if as_json:
        facts: dict[str, Any] = {"job": name, "status": answer.status, **answer.facts}
        print(json.dumps(facts), flush=True)
    if answer.exit_code:
        raise SystemExit(answer.exit_code)
