"""Consumes a pricer, produces a folder that is one: models, calibrations, and what is known of the past, under a hash.

What it knows stays as it was when it was written. It is data alone: models as their own files, tables as Parquet, the
rest as JSON. Each file's SHA-256 is in a list, and the list's own hash is what a reader must know.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.config import DatasetConfig, canonical_json
from assay.config.profile import ScoringConfig
from assay.config.strict import check
from assay.conformal.following import Following
from assay.conformal.timeline import Timeline
from assay.errors import AssayError
from assay.features.plan import FeaturePlan
from assay.model.arrays import from_bytes, to_bytes
from assay.model.bundle import Model, digest_of
from assay.model.registry import Calibrated
from assay.scoring.deployed import Arms
from assay.scoring.kernel import ScoreRows
from assay.scoring.scorer import Scorer
from assay.serving.pricer import Pricer
from assay.serving.request import Limits, Reader
from assay.serving.scores import Scores, Split
from assay.serving.state import State

FILES, DESCRIPTION = "files.json", "pricer.json"
SERVED, TESTED, FOLLOWING = "served", "tested", "following.npz"
CHALLENGER = "challenger"  # folder of a target with another model
TIMELINE = ("alpha", "quantiles", "rows", "source")


def save(pricer: Pricer, folder: Path) -> str:
    """Write a pricer to a new folder; returns the hash that `load` asks for."""
    folder.mkdir(parents=True)
    dataset = pricer.reader.dataset
    source = dataclasses.replace(dataset.source, path=Path(dataset.source.path).name)
    tables = pricer.state.tables()
    targets = {}
    for number, (target, scores) in enumerate(pricer.scores.items()):
        place = folder / "targets" / str(number)
        targets[target] = _write_model(scores.model, place)
        if scores.split is not None:
            challenger = _write_model(scores.split.challenger.model, place / CHALLENGER)
            targets[target]["split"] = {"arms": _told(scores.split.arms), CHALLENGER: challenger}
    for number, table in enumerate(tables.values()):
        pq.write_table(table, folder / f"table-{number}.parquet", compression="zstd")
    description = {
        "dataset": dataclasses.asdict(dataclasses.replace(dataset, source=source)),
        "plan": pricer.state.plan.to_dict(),
        "history": pricer.reader.history,
        "about": pricer.about,
        "example": pricer.example,
        "tables": list(tables),
        "targets": targets,
        "scoring": dataclasses.asdict(pricer.scoring),
    }
    (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {path.relative_to(folder).as_posix(): digest_of(path.read_bytes()) for path in found}
    content = canonical_json(listed).encode()
    (folder / FILES).write_bytes(content)
    return digest_of(content)


def load(folder: Path, *, sha256: str, limits: Limits | None = None) -> Pricer:
    """Read back what `save` wrote, every file checked before it is looked at.

    Raises:
        AssayError: a file is missing or was changed.
    """
    _verify(folder, sha256)
    told = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    dataset: DatasetConfig = check(DatasetConfig, told["dataset"], origin=DESCRIPTION)
    tables: dict[str, pa.Table] = {
        name: pq.read_table(folder / f"table-{number}.parquet") for number, name in enumerate(told["tables"])
    }
    scoring = check(ScoringConfig, told["scoring"], origin=DESCRIPTION)
    classes = any(one.decides for one in dataset.targets)
    scores = {}
    for number, (target, found) in enumerate(told["targets"].items()):
        place = folder / "targets" / str(number)
        scores[target] = Scores.made(_model(place, target, found, scoring), classes=classes)
        if "split" in found:
            rows = _model(place / CHALLENGER, target, found["split"][CHALLENGER], scoring)
            split = Split(_arms(found["split"]["arms"]), Scores.made(rows, classes=classes))
            scores[target] = dataclasses.replace(scores[target], split=split)
    return Pricer(
        reader=Reader(dataset, tuple(told["history"]), limits if limits is not None else Limits()),
        state=State.from_tables(FeaturePlan.from_dict(told["plan"]), tables),
        scores=scores,
        scoring=scoring,
        about=told["about"],
        example=told["example"],
    )


def _write_model(model: ScoreRows, folder: Path) -> dict[str, Any]:
    """Write the files of one model, and of the tested one; returns the rest of it."""
    parts = {SERVED: model} if model.tested is None else {SERVED: model, TESTED: model.tested}
    for part, one in parts.items():
        (folder / part).mkdir(parents=True)
        for name, content in one.scorer.carried.files.items():
            (folder / part / name).write_bytes(content)
    return {
        "learned_column": model.learned_column,
        "entity": model.entity,
        "still": model.scorer.still,
        "following": _write_following(model.scorer.following, folder / FOLLOWING),
        "parts": {part: [one.scorer.calibration, one.scorer.calibration_version] for part, one in parts.items()},
    }


def _model(folder: Path, target: str, told: Mapping[str, Any], scoring: ScoringConfig) -> ScoreRows:
    following = _read_following(told["following"], folder / FOLLOWING)
    made = {}
    for part, (calibration, version) in told["parts"].items():
        scorer = Scorer.of(Calibrated(Model.load(folder / part), calibration, version), scoring, following)
        scorer = dataclasses.replace(scorer, still=told.get("still", False))
        made[part] = ScoreRows(scorer, target, tuple(told["entity"]))
    return dataclasses.replace(made[SERVED], tested=made.get(TESTED), learned_column=told["learned_column"])


def _told(arms: Arms) -> dict[str, Any]:
    return {**dataclasses.asdict(arms), "steps": [[start.isoformat(), below] for start, below in arms.steps]}


def _arms(told: Mapping[str, Any]) -> Arms:
    steps = tuple((dt.datetime.fromisoformat(start), below) for start, below in told["steps"])
    return Arms(**{**told, "steps": steps, "entity": tuple(told["entity"])})


def _write_following(following: Following | None, path: Path) -> dict[str, Any] | None:
    """Write the numbers; returns the rest of it."""
    if following is None:
        return None
    timeline = following.timeline
    path.write_bytes(to_bytes(**{name: getattr(timeline, name) for name in TIMELINE}))
    return {
        "origin": following.origin.isoformat(),
        "step_days": following.step_days,
        "labels": following.labels,
        "steps": [timeline.origin, timeline.start],
    }


def _read_following(told: Mapping[str, Any] | None, path: Path) -> Following | None:
    if told is None:
        return None
    (began, start), arrays = told["steps"], from_bytes(path.read_bytes())
    timeline = Timeline(began, start, *(arrays[name] for name in TIMELINE))
    origin = dt.datetime.fromisoformat(told["origin"])
    return Following(origin, told["step_days"], tuple(told["labels"]), timeline)


def _verify(folder: Path, sha256: str) -> None:
    """Refuse a folder of which one file is not as it was written."""
    listing = folder / FILES
    content = listing.read_bytes() if listing.is_file() else b""
    if digest_of(content) != sha256:
        raise AssayError(f"served model in {folder.name}: {FILES} is not the one on record; refusing to load it")
    for name, digest in json.loads(content).items():
        path = folder / name
        if not path.is_file() or digest_of(path.read_bytes()) != digest:
            raise AssayError(
                f"served model in {folder.name}: file {name} is missing or was changed; refusing to load it"
            )
