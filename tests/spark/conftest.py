"""Produces one finished pipeline on an invented panel, which the tests of training, scoring and evaluation look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from lake_tables import planes_on

from assay.config import RunConfig, load_run
from assay.runtime.job import Result
from assay.runtime.tracking import Tracking

SETTINGS = (
    *("engine.rounds=80", "engine.early_stopping_rounds=15"),
    *("conformal.adaptive=false", "conformal.min_segment_rows=20"),
)


@dataclasses.dataclass(frozen=True)
class Finished:
    """A workspace in which the whole pipeline ran once. Tests read it; what they change they put back."""

    folder: Path
    dataset: dict[str, Any]
    result: Result
    settings: tuple[str, ...] = SETTINGS

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return load_run(dataset=self.folder / "dataset.yml", workspace=self.folder, overrides=self.settings)

    def tracking(self) -> Tracking:
        """Its MLflow store."""
        return Tracking(self.config)

    def table(self, name: str) -> pl.DataFrame:
        """A table's rows as they are now."""
        frame = pl.from_arrow(DeltaTable(self.folder / "lake" / name).to_pyarrow_table())
        assert isinstance(frame, pl.DataFrame)
        return frame


@pytest.fixture(scope="session")
def finished(run_in: Callable[..., Result], towns: Any, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Six towns, eight years of months, one target."""
    folder = tmp_path_factory.mktemp("finished") / "a workspace"
    dataset = towns(folder.parent / "source")
    return Finished(folder, dataset, run_in(folder, "pipeline", dataset, overrides=SETTINGS))


@pytest.fixture
def planes(spark, tmp_path) -> Iterator[dict[str, Any]]:
    """Both roads on an empty lake."""
    found = planes_on(spark, tmp_path / "lake é 1")
    yield found
    found["arrow"].clean()
