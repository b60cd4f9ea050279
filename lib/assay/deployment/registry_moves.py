"""Consumes a registered version, produces its new place: champion, or retired. Refuses what would serve wrongly."""

from __future__ import annotations

import datetime as dt

from assay.deployment.registry_context import Answer, chosen, one_target, versions_for
from assay.deployment.registry_needs import deployments_of, shadows_named
from assay.deployment.registry_verify import version_problems
from assay.errors import AssayError, DataError
from assay.model.registry import load_version
from assay.model.registry_table import write_registry
from assay.model.versions import CHAMPION, PREVIOUS, RETIRED, Version, make_champion
from assay.runtime.job import DONE, UNCHANGED, JobContext
from assay.runtime.tables import FEATURES


def promote(context: JobContext, which: str, target: str | None) -> Answer:
    """Make a version the champion, once all of its files are verified; the champion before becomes `previous`.

    Raises:
        AssayError: a file of it was changed.
        DataError: it is retired, or has learned from other features than the tables have.
    """
    name = one_target(context, target).name
    version = chosen(versions_for(context, name), which, name)
    if version.retired:
        raise DataError(
            f"{version.told} was retired on {version.tags[RETIRED][:10]}: promote another one (`registry list` shows "
            "them), or train again"
        )
    wrong = version_problems(context.tracking, version)
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise AssayError(f"{version.told}: {wrong[0]}{more}; not promoted: promote another one, or train again")
    before = CHAMPION in version.aliases
    if not before:
        check_features(context, version)
    make_champion(context.tracking.client, version.name, str(version.number))
    write_registry(context)
    after = versions_for(context, name)
    previous = next((one.label for one in after if PREVIOUS in one.aliases), None)
    told = f"{version.told} {'is champion already' if before else 'is champion now'}"
    line = told + (f"; before it was {previous}, which is `{PREVIOUS}`" if previous is not None else "")
    facts = {"target": name, "number": version.number, "version": version.label, "previous": previous}
    return Answer(UNCHANGED if before else DONE, [line], facts)


def check_features(context: JobContext, version: Version) -> None:
    """Refuse a version that the table `features`, where there is one, cannot feed.

    Raises:
        DataError: says what the table is, and what to do.
    """
    plane, model = context.plane, load_version(context.tracking, version)
    if plane.version(FEATURES.name) is None:
        return
    commit = plane.last_commit(FEATURES.name, "all")
    built = str(commit.details.get("plan_hash", "")) if commit is not None else ""
    missing = sorted(set(model.columns) - set(plane.schema(FEATURES.name).names))
    if built == model.model.plan_hash and not missing:
        return
    what = f"has no column {missing[0]!r}" if missing else f"was built by plan {built}"
    raise DataError(
        f"{version.told} learned from features of plan {model.model.plan_hash}, and the table features {what}: "
        f"give the dataset the columns and features of then (config.json of MLflow run {version.trained_run_id}), run "
        "build_features, and promote; or train again"
    )


def retire(context: JobContext, which: str, target: str | None) -> Answer:
    """Say that nobody shall use a version any more: it cannot be promoted, and clean-up may remove it.

    Raises:
        DataError: it has an alias, or a deployment or `scoring.shadows` needs it.
    """
    name = one_target(context, target).name
    versions = versions_for(context, name)
    version = chosen(versions, which, name)
    if version.aliases:
        raise DataError(f"{version.told} is {' and '.join(version.aliases)}: {_instead(version)}")
    for needed in (deployments_of(context, name, versions), shadows_named(context, name, versions)):
        if version.number in needed:
            raise DataError(f"{version.told} is needed: {needed[version.number]}; end that first")
    before = version.retired
    if not before:
        now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
        context.tracking.client.set_model_version_tag(version.name, str(version.number), RETIRED, now)
    write_registry(context)
    line = f"{version.told} {'is retired already' if before else 'is retired; `registry cleanup` removes it'}"
    facts = {"target": name, "number": version.number, "version": version.label}
    return Answer(UNCHANGED if before else DONE, [line], facts)


def _instead(version: Version) -> str:
    """What to do first with a version that has aliases."""
    if CHAMPION in version.aliases:
        return "promote another one first (`registry promote N`)"
    if PREVIOUS in version.aliases:
        return "it is what one would go back to; after the next promotion another one is"
    alias = version.aliases[0]
    return f"end what it is there for, or take the alias {alias!r} away in MLflow"
