"""Consumes registered versions and why they are needed, produces their removal: of versions, files and trained models.

Each step can be done again: a version's training run tells of the removal first, then its models go, then the files
of the version, and its record last. Who is killed half way leaves versions that the next run removes.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

from assay.deployment.registry_context import Answer, targets_of, versions_for
from assay.deployment.registry_needs import needs
from assay.model.registry import REMOVED, bundle_name, models_of
from assay.model.registry_table import write_registry
from assay.model.stored import remove_artifacts, remove_version
from assay.model.versions import ABSENT, RETIRED, Version, keep_taken
from assay.runtime.job import DONE, UNCHANGED, JobContext
from assay.runtime.tracking import REMOVED as REMOVED_STATUS
from assay.runtime.tracking import Tracking

DRY = "dry run"
STATUS = "assay.status"
RECORD = "assay.removed."  # of a training run: with a version's number, what was removed and why


@dataclasses.dataclass(frozen=True)
class Decided:
    """What becomes of a version, and why."""

    target: str
    version: Version
    kept: bool
    why: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON output."""
        return {"target": self.target, "number": self.version.number, "version": self.version.label, "why": self.why}


def cleanup(
    context: JobContext,
    target: str | None,
    *,
    keep_days: float | None = None,
    keep_versions: int | None = None,
    yes: bool = False,
) -> Answer:
    """Remove versions that nothing needs. keep_days, keep_versions: instead of the settings.  yes: else a dry run."""
    settings = context.config.profile.registry
    settings = dataclasses.replace(
        settings,
        keep_days=settings.keep_days if keep_days is None else keep_days,
        keep_versions=settings.keep_versions if keep_versions is None else keep_versions,
    )
    clock = dt.datetime.now(dt.timezone.utc)
    decided: list[Decided] = []
    for one in targets_of(context, target):
        versions = versions_for(context, one.name)
        needed = needs(context, one.name, versions, context.config.as_of or clock)
        decided += decide(one.name, versions, needed, clock, settings.keep_versions, settings.keep_days)
    removed, kept = ([one for one in decided if one.kept is kept] for kept in (False, True))
    if yes:
        remove(context.tracking, removed, kept, clock)
        write_registry(context)
    done = "removed" if yes else "would remove"
    lines = [f"{done} {one.version.told}: {one.why}" for one in removed]
    lines += [f"kept {one.version.told}: {one.why}" for one in kept]
    lines.append(f"{len(removed)} version(s) {'removed' if yes else 'to remove'}, {len(kept)} kept")
    if removed and not yes:
        lines.append("nothing was removed: this was a dry run; --yes removes them")
    facts = {"removed" if yes else "would_remove": [r.as_dict() for r in removed], "kept": [k.as_dict() for k in kept]}
    return Answer((DONE if removed else UNCHANGED) if yes else DRY, lines, facts)


def decide(
    target: str,
    versions: Sequence[Version],
    needed: Mapping[int, Sequence[str]],
    now: dt.datetime,
    keep_versions: int,
    keep_days: float,
) -> list[Decided]:
    """What becomes of each version of a target. needed: why, by number; nothing that it names is removed."""
    live = [one.number for one in versions if not one.retired]
    newest = set(live[len(live) - min(keep_versions, len(live)) :])
    found = []
    for one in versions:
        days = (now - one.registered_at).total_seconds() / 86_400
        if one.number in needed:
            kept, why = True, "; ".join(needed[one.number])
        elif one.retired:
            kept, why = False, f"retired on {one.tags[RETIRED][:10]}, and nothing needs it"
        elif one.number in newest:
            kept, why = True, f"among the newest {keep_versions} (registry.keep_versions)"
        elif days < keep_days:
            kept, why = True, f"registered {days:.1f} days ago (registry.keep_days {keep_days:g})"
        else:
            kept, why = (
                False,
                f"registered {days:.1f} days ago, not among the newest {keep_versions}, and nothing needs it",
            )
        found.append(Decided(target, one, kept, why))
    return found


def remove(tracking: Tracking, removed: Sequence[Decided], kept: Sequence[Decided], now: dt.datetime) -> None:
    """Remove versions with their files, and the models of training runs that no kept version came from."""
    client, needed = tracking.client, {one.version.trained_run_id for one in kept}
    for name in dict.fromkeys(one.version.name for one in removed):
        semantic = [one.version.semantic for one in removed if one.version.name == name]
        keep_taken(client, name, [one for one in semantic if one is not None])
    for one in removed:
        version = one.version
        told = {
            "version": version.label,
            "model_version": version.tag("model_version"),
            "calibration_version": version.tag("calibration_version"),
            "why": one.why,
            "removed_at": now.isoformat(timespec="seconds"),
        }
        _note(tracking, version.trained_run_id, {f"{RECORD}{version.number}": json.dumps(told)})
        _note(tracking, version.run_id, {STATUS: REMOVED_STATUS})  # else calibrating so again would find it done
    for run_id in dict.fromkeys(one.version.trained_run_id for one in removed):
        if run_id not in needed:
            remove_models(tracking, run_id, now)
    for one in removed:
        version = one.version
        number, registry = str(version.number), tracking.registry_uri
        remove_version(client, tracking.uri, version.name, number, version.source, registry_uri=registry)


def remove_models(tracking: Tracking, run_id: str, now: dt.datetime) -> None:
    """Remove the models of a training run, which is not on record for others any more: asked for again, it is made."""
    if not _note(tracking, run_id, {STATUS: REMOVED_STATUS, REMOVED: now.isoformat(timespec="seconds")}):
        return
    run = tracking.client.get_run(run_id)
    for which in models_of(run.data.tags):
        remove_artifacts(run.info.artifact_uri, tracking.uri, bundle_name(which))


def _note(tracking: Tracking, run_id: str, tags: Mapping[str, str]) -> bool:
    """Tag a run; whether it is still there."""
    try:
        for key, value in tags.items():
            tracking.client.set_tag(run_id, key, value)
    except tracking.mlflow.MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return False
    return True
