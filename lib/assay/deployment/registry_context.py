"""Consumes the options of a registry command, produces what it stands on: MLflow, tables, one target, one version."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from assay.config import RunConfig, TargetConfig
from assay.errors import EXIT_OK, DataError, UserError
from assay.model.registry import model_name
from assay.model.versions import Version, described, pick, versions_of
from assay.runtime.job import JobContext, choose_plane
from assay.runtime.plane import Plane
from assay.runtime.preflight import MARK
from assay.runtime.program import program
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a command found or did. lines: for a person.  facts: for `--json`."""

    status: str
    lines: Sequence[str]
    facts: Mapping[str, Any]
    exit_code: int = EXIT_OK


class RegistryContext(JobContext):
    """A context that reads and writes tables in this process where they are files; else by Spark."""

    @cached_property
    def plane(self) -> Plane:
        """The road that rows take: few here."""
        return choose_plane(self, here=True)


def open_context(config: RunConfig, settings: SparkSettings, reporter: Reporter) -> JobContext:
    """The context of a workspace that is there.

    Raises:
        DataError: it is not; a registry has nothing to make one of.
    """
    if not (config.workspace / MARK).is_file():
        raise DataError(f"--workspace {config.workspace}: no job has run there: run `{program()} pipeline` first")
    return RegistryContext(config, settings, reporter)


def targets_of(context: JobContext, target: str | None) -> list[TargetConfig]:
    """The named target, or all of the dataset.

    Raises:
        UserError: the dataset has no such target.
    """
    targets = context.config.dataset.targets
    found = [one for one in targets if target in {None, one.name}]
    if not found:
        known = ", ".join(one.name for one in targets)
        raise UserError(f"--target {target}: dataset {context.config.dataset.name} has {known}")
    return found


def one_target(context: JobContext, target: str | None) -> TargetConfig:
    """The named target, or the only one.

    Raises:
        UserError: there are several and none is named, or there is none of that name.
    """
    found = targets_of(context, target)
    if len(found) > 1:
        known = ", ".join(one.name for one in found)
        raise UserError(f"dataset {context.config.dataset.name} has {known}: say which, --target {found[0].name}")
    return found[0]


def versions_for(context: JobContext, target: str) -> list[Version]:
    """All versions of a target's model, oldest first."""
    return versions_of(context.tracking.client, model_name(context.config, target))


def chosen(versions: Sequence[Version], which: str, target: str) -> Version:
    """The version with this number, semantic version or alias.

    Raises:
        DataError: there is none; says which there are.
    """
    found = pick(versions, which)
    if found is None:
        raise DataError(f"the model of {target} has no version or alias {which!r}: {described(versions)}")
    return found
