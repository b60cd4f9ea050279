"""Consumes registered versions, produces what people want to know of them: a list, or all that is known of one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from assay.deployment.registry_context import Answer, chosen, one_target, targets_of, versions_for
from assay.model.registry_table import coverage_of, registry_rows, tested_figures
from assay.runtime.job import DONE, JobContext

HEADINGS = ("target", "version", "state", "change", "engine", "learned until", "rows", "test", "held", "registered")
LINEAGE = {  # tag -> what it is, for people
    "change": "change",
    "parent": "parent (the champion of then)",
    "run_id": "training run",
    "features_version": "features version",
    "observations_version": "made from observations version",
    "calibration_features_version": "calibrated on features version",
    "plan_hash": "feature plan",
    "engine": "engine",
    "learned_rows": "rows learned from",
    "learned_until": "learned until",
    "study_run_id": "tuning study, run",
    "config_hash": "configuration hash",
    "code": "code revision",
    "assay_version": "assay version",
    "model_version": "model",
    "calibration_version": "calibration",
    "tested_version": "model that was tested",
    "files_sha256": "SHA-256 of the list of files",
    "registered_at": "registered at",
    "retired_at": "retired at",
}


def listed(context: JobContext, target: str | None) -> Answer:
    """All versions of one target or of all, oldest first."""
    names = {one.name for one in targets_of(context, target)}
    rows = [row for row in registry_rows(context.tracking) if row["target"] in names]
    cells = [_cells(row) for row in rows]
    lines = _columns([HEADINGS, *cells]) if cells else ["no version is registered: run train or pipeline first"]
    return Answer(DONE, lines, {"versions": [_plain(row) for row in rows]})


def shown(context: JobContext, which: str, target: str | None) -> Answer:
    """All that is on record of a version."""
    name = one_target(context, target).name
    version = chosen(versions_for(context, name), which, name)
    lineage = {tag: told for tag in LINEAGE if (told := version.tag(tag))}
    if "parent" in lineage and (semantic := version.tag("parent_semantic_version")):
        lineage["parent"] += f" ({semantic})"
    figures, coverage = tested_figures(context.tracking, version), coverage_of(version)
    lines = [f"{version.told}: {state_of(version.state, version.aliases)}"]
    lines += [f"  {LINEAGE[tag]}: {told}" for tag, told in lineage.items()]
    lines += [f"  {metric}: {value:.6g}" for metric, value in sorted(figures.items())]
    lines += [f"  test coverage of the {level:g} level: {share:.4f}" for level, share in coverage.items()]
    facts = {
        "target": name,
        "number": version.number,
        "semantic_version": str(version.semantic or "") or None,
        "state": version.state,
        "aliases": list(version.aliases),
        "lineage": {tag: version.tag(tag) for tag in (*LINEAGE, "parent_semantic_version") if version.tag(tag)},
        "metrics": figures,
        "coverage": {f"{level:g}": share for level, share in coverage.items()},
    }
    return Answer(DONE, lines, facts)


def state_of(state: str, aliases: Sequence[str]) -> str:
    """A state, with aliases that it does not tell."""
    told = {"serving": "champion"}.get(state, state)
    others = [alias for alias in aliases if alias != told]
    return f"{state} ({', '.join(others)})" if others else state


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    semantic = row["semantic_version"]
    name = next((one for one in ("rmse", "log_loss") if row[one] is not None), None)
    coverage = zip(row["levels"], row["test_coverage"], strict=True)
    return (
        row["target"],
        f"{row['number']} ({semantic})" if semantic else str(row["number"]),
        state_of(row["state"], row["aliases"]),
        row["change"] or "",
        row["engine"] or "",
        f"{row['learned_until']:%Y-%m-%d}" if row["learned_until"] else "",
        f"{row['rows']:,}" if row["rows"] is not None else "",
        f"{name} {row[name]:.5g}" if name is not None else "",
        " ".join(f"{level:.0%}: {share:.1%}" for level, share in coverage),
        f"{row['registered_at']:%Y-%m-%d %H:%M}",
    )


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines whose columns are aligned."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for JSON."""
    return {key: value.isoformat() if isinstance(value, dt.datetime) else value for key, value in row.items()}
