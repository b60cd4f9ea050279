"""Consumes registered versions, produces what is wrong with the files of each: those registered and those trained."""

from __future__ import annotations

from assay.deployment.registry_context import Answer, chosen, one_target, targets_of, versions_for
from assay.errors import EXIT_FAILURE, EXIT_OK, AssayError
from assay.model.bundle import inspected
from assay.model.files import problems
from assay.model.logged import LISTED
from assay.model.registry import REMOVED, bundle_name, load_version, models_of
from assay.model.stored import version_files
from assay.model.versions import Version
from assay.runtime.job import JobContext
from assay.runtime.tracking import Tracking


def verify(context: JobContext, which: str | None, target: str | None) -> Answer:
    """Check every file of one version, or of all versions of one target or of all."""
    tracking = context.tracking
    found: list[tuple[str, Version]] = []
    if which is None:
        found = [
            (one.name, version) for one in targets_of(context, target) for version in versions_for(context, one.name)
        ]
    else:
        name = one_target(context, target).name
        found = [(name, chosen(versions_for(context, name), which, name))]
    runs: dict[str, list[str]] = {}
    lines, facts = [], []
    for name, version in found:
        run_id = version.trained_run_id
        if run_id not in runs:
            runs[run_id] = trained_problems(tracking, run_id)
        wrong = [*version_problems(tracking, version), *runs[run_id]]
        facts.append({"target": name, "number": version.number, "version": version.label, "problems": wrong})
        fine = (
            "every file"
            if LISTED in version.tags
            else "models and calibrations (of other files there is no list): each"
        )
        lines += [f"{version.told}: {one}" for one in wrong] or [f"{version.told}: {fine} is as it was registered"]
    broken = sum(bool(fact["problems"]) for fact in facts)
    lines.append(f"{len(facts)} version(s) verified, {broken} corrupted" if facts else "no version is registered")
    status, code = ("corrupted", EXIT_FAILURE) if broken else ("done", EXIT_OK)
    return Answer(status, lines, {"versions": facts}, code)


def version_problems(tracking: Tracking, version: Version) -> list[str]:
    """What is wrong with the files of a version, one sentence a file; nothing where it can be loaded."""
    found: list[str] = []
    try:
        number, registry = str(version.number), tracking.registry_uri
        with version_files(tracking.uri, version.name, number, version.told, registry_uri=registry) as folder:
            if LISTED in version.tags:
                found = problems(folder, sha256=version.tags[LISTED])
        if not found:
            load_version(tracking, version)
    except AssayError as error:
        found.append(str(error).removeprefix(f"{version.told}: ").removesuffix("; refusing to load it"))
    return found


def trained_problems(tracking: Tracking, run_id: str) -> list[str]:
    """What is wrong with the models of a training run, which calibrating again needs; one sentence a file."""
    try:
        tags = tracking.client.get_run(run_id).data.tags
    except tracking.mlflow.MlflowException as error:
        return [f"training run {run_id} is gone: {error.message}"]
    if REMOVED in tags:
        return [f"the models of training run {run_id} were removed"]
    found = []
    for which, digest in models_of(tags).items():
        name = f"{bundle_name(which)} of training run {run_id}"
        try:
            with tracking.download(run_id, bundle_name(which)) as folder:
                found += [f"{name}: {one}" for one in inspected(folder, sha256=digest)[1]]
        except (OSError, tracking.mlflow.MlflowException) as error:
            found.append(f"{name} cannot be read ({error})")
    return found
