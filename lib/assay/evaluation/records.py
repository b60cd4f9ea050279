"""Consumes what is on record of a training run and of its data, produces what a report says beside evaluated rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from functools import cached_property
from typing import Any

from assay.config import TargetConfig
from assay.conformal.job import BLOCKS, COVERAGE_GATE
from assay.evaluation.content import DataFacts, Gate, Refit, Split
from assay.evaluation.data_facts import COLUMNS, data_facts
from assay.model.registry import TrainedRun
from assay.pages.formats import readable
from assay.runtime.conditions import Condition
from assay.runtime.job import JobContext
from assay.runtime.tables import CALIBRATIONS, QUALITY_REPORTS, ingested_table

UNITS = {  # of a gate's figures, and whether more is better
    "min_r2": ("", True),
    "min_business_accuracy": ("%", True),
    "beats_best_baseline": ("", False),
    "not_worse_than_champion": ("", False),
}


def ingested(context: JobContext) -> str:
    """Identity of the ingest run whose rows are in the table; empty where nobody knows."""
    table = ingested_table(context.config.dataset.ingested)
    commit = context.plane.last_commit(table.name, "all")
    return commit.identity if commit is not None else ""


@dataclasses.dataclass(frozen=True)
class Records:
    """What MLflow and the tables know of one trained target."""

    context: JobContext
    target: TargetConfig
    trained: TrainedRun

    @cached_property
    def run(self) -> Any:
        """MLflow's record of the training run."""
        return self.context.tracking.client.get_run(self.trained.run_id)

    @property
    def created(self) -> dt.datetime:
        """When training ended."""
        return dt.datetime.fromtimestamp(self.run.info.end_time / 1000, dt.timezone.utc)

    def run_facts(self) -> dict[str, str]:
        """What was run, by the record of the training run."""
        model, served, tags = self.trained.model, self.trained.served, self.run.data.tags
        return {
            "Dataset": self.context.config.dataset.name,
            "Profile": self.context.config.profile_name,
            "Model version": model.version,
            **({"Model that serves": served.version} if served is not None else {}),
            "Engine": f"{' and '.join(model.engines)}, {model.facts['rounds']} rounds",
            **self._blocks(),
            "Seed": str(model.facts["seed"]),
            "MLflow run": self.trained.run_id,
            "Configuration hash": tags.get("assay.config_hash", "")[:16],
            "Git revision": tags.get("mlflow.source.git.commit", "not from a checkout")[:12],
            "assay version": tags.get("assay.version", ""),
        }

    def _blocks(self) -> dict[str, str]:
        """Who scored the calibration period, where that was cut into blocks."""
        scored = [one for one in self.artifact(BLOCKS) or () if one["period"] == "calibrate"]
        days = ", ".join(one["learned_until"][:10] for one in scored)
        return {"Calibrated by": f"{len(scored)} models, which learned until {days}"} if len(scored) > 1 else {}

    def gates(self) -> list[Gate]:
        """Verdicts of training, then of calibration."""
        found = []
        verdicts = [v for name in ("gates.json", COVERAGE_GATE) for v in self._artifact(self.trained.run_id, name)]
        for verdict in verdicts:
            unit, at_least = UNITS.get(verdict["gate"], ("", True))
            gate = Gate(
                readable(verdict["gate"]), verdict["figure"], verdict["threshold"], verdict["passed"], unit, at_least
            )
            found.append(gate)
        return found

    def refit(self) -> Refit | None:
        """What learning again was worth; None where the tested model serves, or nobody measured it."""
        figures = self.run.data.metrics
        without = figures.get("test_rmse_without_refit")
        if self.trained.served is None or without is None:
            return None
        until = None if self.trained.model.drawn else dt.datetime.fromisoformat(self.trained.served.learned_until)
        return Refit(until, figures["test_rmse"], without)

    def splits(self) -> list[Split]:
        """Periods of the run in order, those that have rows."""
        found = []
        for name in ("train", "tune", "calibrate", "test"):
            period = self.trained.model.facts["split"][name]
            first, last = period.get("first"), period.get("last")
            if first and last:
                moments = dt.datetime.fromisoformat(first), dt.datetime.fromisoformat(last)
                found.append(Split(name, *moments, int(period["rows"])))
        return found

    def calibration_rows(self) -> int | None:
        """Rows that the model was calibrated on; None where nobody knows."""
        plane = self.context.plane
        version = plane.version(CALIBRATIONS.name)
        if version is None:
            return None
        where = [
            Condition("target", "==", self.target.name),
            Condition("segment", "==", ""),
            Condition("model_version", "==", self.trained.model.version),
        ]
        rows = plane.read(CALIBRATIONS.name, version=version, columns=["rows"], where=where).collect()
        return int(rows.column("rows")[0].as_py()) or None if rows.num_rows else None

    def data_facts(self) -> DataFacts:
        """Quality of the observations that are in the table, and the patterns of their series."""
        plane, run = self.context.plane, ingested(self.context)
        version = plane.version(QUALITY_REPORTS.name)
        if version is None:
            return data_facts([])
        where = [Condition("run", "==", run)]
        rows = plane.read(QUALITY_REPORTS.name, version=version, columns=COLUMNS, where=where).collect()
        past = self.context.tracking.finished("ingest", run)
        patterns = self._artifact(past.run_id, "patterns.json") if past is not None else []
        return data_facts(rows.to_pylist(), patterns)

    def artifact(self, name: str) -> Any:
        """Plain data that are on record of the training run; None where there is no such file."""
        there = {found.path for found in self.context.tracking.client.list_artifacts(self.trained.run_id)}
        return self._artifact(self.trained.run_id, name) if name in there else None

    def _artifact(self, run_id: str, name: str) -> Any:
        with self.context.tracking.download(run_id, name) as path:
            return json.loads(path.read_text(encoding="utf-8"))
