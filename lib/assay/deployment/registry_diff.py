"""Consumes two registered versions, produces what differs: features, settings, tables, code, figures, intervals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assay.conformal.calibration import ALL_ROWS
from assay.conformal.calibration_rows import quantile_names
from assay.conformal.class_calibration import read_calibration
from assay.deployment.registry_context import Answer, chosen, one_target, versions_for
from assay.model.registry import Champion, load_version
from assay.model.registry_table import coverage_of, tested_figures
from assay.model.signature import input_kinds
from assay.model.versions import Version
from assay.runtime.job import DONE, JobContext
from assay.runtime.tracking import Tracking

TABLES = ("features_version", "observations_version", "calibration_features_version")
CODE = ("code", "assay_version", "config_hash", "study_run_id")
SETTINGS = ("score", "segment_columns", "min_segment_rows", "pace")  # of a calibration
NOTHING = "nothing differs"


def diff(context: JobContext, first: str, second: str, target: str | None) -> Answer:
    """What differs between two versions of a target's model, both verified.

    Raises:
        DataError: there is no such version.
        AssayError: a file of one of them was changed.
    """
    name = one_target(context, target).name
    versions = versions_for(context, name)
    a, b = chosen(versions, first, name), chosen(versions, second, name)
    one, other = (load_version(context.tracking, v) for v in (a, b))
    configs = [run_config(context.tracking, version) for version in (a, b)]
    sections: dict[str, Any] = {
        "features": features_between(one, other),
        "feature_plan": between(flat(one.model.plan), flat(other.model.plan)),
        "params": between(
            *(params_of(context.tracking, v, m, c) for v, m, c in zip((a, b), (one, other), configs, strict=True))
        ),
        "config": between(*(flat(_without_params(config)) for config in configs)),
        "tables": between(*({tag: v.tag(tag) for tag in TABLES if v.tag(tag)} for v in (a, b))),
        "code": between(*({tag: v.tag(tag) for tag in CODE if v.tag(tag)} for v in (a, b))),
        "metrics": between(*(figures_of(context.tracking, v) for v in (a, b))),
        "calibration": between(calibration_of(one), calibration_of(other)),
    }
    lines = [f"{a.told} and version {b.label}:", *(_told(sections) or [f"  {NOTHING}"])]
    return Answer(DONE, lines, {"target": name, "first": a.label, "second": b.label, **sections})


def features_between(one: Champion, other: Champion) -> dict[str, Any]:
    """Inputs that were added, removed, are of another kind, or come in another order."""
    kinds, later = input_kinds(one.model, one.calibration), input_kinds(other.model, other.calibration)
    before, after = one.model.encoding.columns, other.model.encoding.columns
    both = set(before) & set(after)
    return {
        "added": [name for name in later if name not in kinds],
        "removed": [name for name in kinds if name not in later],
        "kind": between({n: kinds[n] for n in kinds if n in later}, {n: later[n] for n in later if n in kinds}),
        "order_changed": [n for n in before if n in both] != [n for n in after if n in both],
    }


def params_of(tracking: Tracking, version: Version, model: Champion, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the learner was given: the settings' parameters, and those that a study found over them."""
    tuned = _artifact(tracking, version.trained_run_id, "tuned.json").get("params", {})
    facts, engine = model.model.facts, config.get("engine", {})
    told = {"engine": model.model.engine, "rounds": facts.get("rounds"), "seed": facts.get("seed")}
    ensemble = {"ensemble": facts["ensemble"]} if "ensemble" in facts else {}
    return flat({**told, **engine.get("params", {}), **tuned, **ensemble})


def run_config(tracking: Tracking, version: Version) -> dict[str, Any]:
    """The resolved configuration of a version's training, with the section `conformal` of its calibration."""
    config = _artifact(tracking, version.trained_run_id, "config.json")
    calibrated = _artifact(tracking, version.run_id, "config.json") if version.run_id else {}
    return {**config, **{name: calibrated[name] for name in ("conformal",) if name in calibrated}}


def figures_of(tracking: Tracking, version: Version) -> dict[str, float]:
    """Figures of the test, coverage among them."""
    held = {f"test_coverage_{level:g}": share for level, share in coverage_of(version).items()}
    return {**tested_figures(tracking, version), **held}


def calibration_of(model: Champion) -> dict[str, Any]:
    """A calibration as flat settings: kind, levels, and the quantiles of all rows together."""
    found = read_calibration(model.calibration, classes=model.model.outcome.decides)
    everyone = found.quantiles[ALL_ROWS]
    settings: dict[str, Any] = {key: model.calibration[key] for key in SETTINGS if key in model.calibration}
    return {
        "version": model.calibration_version,
        "levels": list(found.levels),
        "segments": len(found.quantiles) - 1,
        "rows": everyone.rows,
        **flat(settings),
        **dict(zip(quantile_names(found), everyone.quantiles, strict=True)),
    }


def between(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Name -> [what it is in the one, in the other]; None where one of them has no such thing."""
    names = dict.fromkeys([*one, *other])
    return {name: [one.get(name), other.get(name)] for name in names if one.get(name) != other.get(name)}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    return dict(_flat(tree, prefix))


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _without_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the learner's parameters, which are told apart."""
    engine = {key: value for key, value in config.get("engine", {}).items() if key != "params"}
    return {**config, "engine": engine} if config else {}


def _artifact(tracking: Tracking, run_id: str, path: str) -> dict[str, Any]:
    """A JSON artifact of a run; nothing where there is none."""
    try:
        if all(one.path != path for one in tracking.client.list_artifacts(run_id)):
            return {}
        with tracking.download(run_id, path) as file:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except tracking.mlflow.MlflowException:  # the run is gone
        return {}
    return found


def _told(sections: Mapping[str, Any]) -> list[str]:
    """Lines of what differs, section by section."""
    features, lines = sections["features"], []
    lines += [f"  feature added: {name}" for name in features["added"]]
    lines += [f"  feature removed: {name}" for name in features["removed"]]
    lines += [f"  feature {name}: {a} -> {b}" for name, (a, b) in features["kind"].items()]
    lines += ["  the features come in another order"] if features["order_changed"] else []
    for section, found in sections.items():
        if section != "features":
            lines += [f"  {section} {name}: {_pair(values)}" for name, values in found.items()]
    return lines


def _pair(values: Sequence[Any]) -> str:
    """Two values, for numbers with their difference."""
    one, other = (format(v, ".6g") if isinstance(v, float) else str(v if v is not None else "none") for v in values)
    a, b = values
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (a, b))
    return f"{one} -> {other}" + (f" ({b - a:+.4g})" if numbers else "")
