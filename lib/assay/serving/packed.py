"""Consumes a pricer, produces a folder that is one: models, calibrations, and what is known of the past, under a hash.

What it knows stays as it was when it was written. It is data alone: models as their own files, tables as Parquet, the
rest as JSON. Each file's SHA-256 is in a list, and the list's own hash is what a reader must know.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.config import DatasetConfig, canonical_json
from assay.config.strict import check
from assay.errors import AssayError
from assay.features.plan import FeaturePlan
from assay.model.bundle import Model, digest_of
from assay.model.carried import Carried
from assay.scoring.kernel import ScoreRows
from assay.serving.pricer import Pricer
from assay.serving.request import Limits, Reader
from assay.serving.state import State

FILES, DESCRIPTION = "files.json", "pricer.json"
SERVED, TESTED = "served", "tested"


def save(pricer: Pricer, folder: Path) -> str:
    """Write a pricer to a new folder; returns the hash that `load` asks for."""
    folder.mkdir(parents=True)
    dataset = pricer.reader.dataset
    source = dataclasses.replace(dataset.source, path=Path(dataset.source.path).name)
    tables = pricer.state.tables()
    targets = {}
    for number, (target, scorer) in enumerate(pricer.scorers.items()):
        parts = {SERVED: scorer} if scorer.tested is None else {SERVED: scorer, TESTED: scorer.tested}
        for part, one in parts.items():
            place = folder / "targets" / str(number) / part
            place.mkdir(parents=True)
            for name, content in one.carried.files.items():
                (place / name).write_bytes(content)
        targets[target] = {part: _described(one) for part, one in parts.items()}
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
    scorers = {}
    for number, (target, parts) in enumerate(told["targets"].items()):
        made = {part: _scorer(folder / "targets" / str(number) / part, found) for part, found in parts.items()}
        scorers[target] = dataclasses.replace(made[SERVED], tested=made.get(TESTED))
    return Pricer(
        reader=Reader(dataset, tuple(told["history"]), limits if limits is not None else Limits()),
        state=State.from_tables(FeaturePlan.from_dict(told["plan"]), tables),
        scorers=scorers,
        about=told["about"],
        example=told["example"],
    )


def _described(scorer: ScoreRows) -> dict[str, Any]:
    return {
        "target": scorer.target,
        "entity": scorer.entity,
        "classes": scorer.classes,
        "learned_column": scorer.learned_column,
        "calibration": scorer.calibration,
        "calibration_version": scorer.calibration_version,
    }


def _scorer(folder: Path, described: Mapping[str, Any]) -> ScoreRows:
    told = {**described, "entity": tuple(described["entity"])}
    return ScoreRows(carried=Carried.of(Model.load(folder)), **told)


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
