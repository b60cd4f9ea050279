"""Consumes `scoring.shadows` and the registry, produces the models that score beside the champion and serve nobody."""

from __future__ import annotations

from assay.config import TargetConfig
from assay.errors import DataError
from assay.model.registry import Champion, registered
from assay.runtime.job import JobContext


def shadows_of(context: JobContext, target: TargetConfig, served: Champion) -> list[Champion]:
    """Models that the configuration names for a target, each once; one that is the champion now is left out.

    Raises:
        DataError: there is no such version, or it learned from features of another plan than the champion.
    """
    found: dict[str, Champion] = {}
    names = {one.name for one in context.config.dataset.targets}
    for told in map(str, context.config.profile.scoring.shadows):
        of, _, which = told.rpartition(":")
        if of and of not in names:
            raise DataError(
                f"scoring.shadows: {told!r} is of target {of!r}; the dataset has {', '.join(sorted(names))}"
            )
        if of and of != target.name:
            continue
        try:
            model = registered(context.tracking, target.name, which)
        except DataError as error:
            raise DataError(f"scoring.shadows: {told!r}: {error}") from None
        if model.number == served.number:
            context.reporter.say(f"score: {told!r} of scoring.shadows is the champion itself; it is scored once")
            continue
        if model.model.plan_hash != served.model.plan_hash:
            raise DataError(
                f"scoring.shadows: {told!r}, version {model.label}, of {target.name} learned from feature plan "
                f"{model.model.plan_hash}, the champion from {served.model.plan_hash}: one reading cannot feed both; "
                "leave it out, or train it again on the features as they are"
            )
        found[model.number] = model
    return list(found.values())
