"""assay: distributed Spark ML jobs that say what things are worth, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import jobs
from assay.jobs import (
    build_features,
    calibrate,
    configuration,
    daily,
    deploy,
    evaluate,
    monitor,
    predict,
    retrain,
    run,
    score,
    segment,
    train,
    tune,
)
from assay.version import __version__

if TYPE_CHECKING:
    from assay.season.outcome import Outcome
    from assay.synthetic.job import Generated
    from assay.workspace import Workspace

# Jobs whose names are those of modules, `ingest` and `pipeline`, are `assay.jobs.ingest` and `assay.jobs.pipeline`.
__all__ = [
    "__version__",
    "build_features",
    "calibrate",
    "configuration",
    "daily",
    "deploy",
    "evaluate",
    "generate",
    "jobs",
    "monitor",
    "open",
    "open_workspace",
    "play_season",
    "predict",
    "retrain",
    "run",
    "score",
    "segment",
    "train",
    "tune",
]


def open_workspace(folder: str | Path, *, conf_file: str | Path | None = None) -> Workspace:
    """Look at a finished run: its tables as frames, its figures, models and reports.

    conf_file: Spark settings, where tables are in another file system (`runtime.lake`) and no session runs yet.
    """
    from assay.runtime.session import SparkSettings
    from assay.workspace import Workspace

    return Workspace(folder, SparkSettings(conf_file=Path(conf_file)) if conf_file is not None else None)


open = open_workspace


def generate(folder: str | Path, **settings: Any) -> Generated:
    """Make a synthetic market, as `assay generate --out ...` does; see `assay.synthetic.job.make_market`.

    assay.generate("market", rows=15_000, frequency="weekly", drift=["level=0.3"])
    """
    from assay.synthetic.job import make_market

    return make_market(Path(folder).absolute(), **settings)


def play_season(
    folder: str | Path, *, days: int = 180, seed: int = 7, overrides: Sequence[str] = (), **told: Any
) -> Outcome:
    """Play a season, or what is left of it, and judge it, as `assay season --workspace ... --set ...` does.

    One that is over is only judged again. told: spark and reporter; see `assay.season.play.play`.

    print(*assay.play_season("workspace/season", days=30).lines(), sep="\\n")
    """
    from assay.season.play import play

    return play(Path(folder).absolute(), days=days, seed=seed, more=overrides, **told)
