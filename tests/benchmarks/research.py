"""Consumes real data sets, compares the research profile with plain boosters: losses on the same later rows.

* `assay`: `build_features` and `train` with the research profile as it is: features, a study of 50 trials, an ensemble.
* `xgboost`, `catboost`: each with 50 trials of Optuna's TPE with median pruning on the raw columns and the parts of the
  date, native categories, early stopping on the tune period, then fitted again on all rows before the test period.

All have the same forward split (of customers without dates: the same drawn parts) and the same label: logarithms where
the data set says so, of `sp500_daily` the next day's return. A target known only when its day is over leaves a plain
booster nothing of that day, so of `sp500_daily` it gets the day before. Losses: RMSE, for classes log loss. Intervals
are of the difference, by a bootstrap of whole days (of customers: of rows). `$ASSAY_BENCHMARK_TRIALS` sets another
number of trials for all; `--only 'kc_house:*'` runs one data set. Seed 7. Results stay on disk, so that data sets can
be run one at a time: the report has those of earlier runs too, and says so.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _plain
from benchmarks._real import generate, observed, opened
from benchmarks.harness import CACHE, OURS, Benchmark, Contender, Outcome

DATASETS = ("kc_house", "walmart_weekly", "sp500_daily", "orange_juice_profit", "telco_churn")
RETURNS = {"sp500_daily": "Adj Close"}  # data set -> target that is judged by its relative change
TRIALS = int(os.environ.get("ASSAY_BENCHMARK_TRIALS", "50"))
TOLD = ["training.force_production_quality=false", f"training.max_evals={TRIALS}"]
KINDS = (OURS, "xgboost", "catboost")


def prepare_ours(data: Path, dataset: str) -> Any:
    """A fresh workspace with its observations."""
    return observed(dataset, data / "runs" / dataset, TOLD, "research"), data / f"{dataset}-{OURS}.parquet"


def run_ours(state: Any) -> Any:
    """Features, studies, training, calibration."""
    from assay.pipeline import JOBS

    context, path = state
    JOBS["build_features"].run(context)
    JOBS["train"].run(context)
    return context, path


def outputs_ours(state: Any) -> Mapping[str, float]:
    """Losses of the tested models on the test period; a row of each is left on disk."""
    import polars as pl

    from assay.model.registry import load_trained
    from assay.runtime.job import run_stage
    from assay.training import job as training
    from assay.tuning import job as tuning

    context, path = state
    found = []
    for target in context.config.dataset.targets:
        _, best = tuning.tuned(context, target)  # on record already, as is the training
        run_id = run_stage(context, training.plan(context, target, best)).run_id
        model = load_trained(context.tracking, run_id).model
        run = training.Training(context, target, context.plane.version("features"))
        split = run.split(run.rows.times())
        columns = list(dict.fromkeys([*model.input_columns, run.column, "row_id", "time"]))
        rows = run.rows.read(columns, split.test).collect().combine_chunks().to_batches()
        for batch in rows:
            told = model.probabilities(batch)[:, 1] if model.outcome.decides else model.predict(batch)
            values = {"row_id": batch.column("row_id"), "time": batch.column("time"), "told": np.asarray(told)}
            actual = pl.Series("actual", batch.column(run.column)).cast(pl.Float64)
            found.append(pl.DataFrame({**values, "target": target.name}).with_columns(actual))
    context.close()
    pl.concat(found).write_parquet(path)
    return {}


def prepare_plain(data: Path, dataset: str, kind: str) -> Any:
    """The raw rows, and which part of the split each belongs to."""
    folder = data / "raw" / dataset
    if not (folder / "_READY").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        context = opened(dataset, folder / "workspace", TOLD, "development")
        _plain.write_rows(context, folder, RETURNS.get(dataset))
        context.close()
        (folder / "_READY").touch()
    return folder, kind, data / f"{dataset}-{kind}.parquet"


def run_plain(state: Any) -> Any:
    """A study and a fit for each target; (target, rows with what was told) of each."""
    folder, kind, path = state
    return _plain.predicted(folder, kind, TRIALS), path


def outputs_plain(state: Any) -> Mapping[str, float]:
    """Leaves the predictions on disk."""
    found, path = state
    found.write_parquet(path)
    return {}


@dataclasses.dataclass(frozen=True)
class Against:
    """Ours against a plain booster: both losses, and the interval of their difference (ours minus theirs)."""

    dataset: str
    target: str
    contender: str
    loss: str
    ours: float
    theirs: float
    low: float
    high: float


def compared(data: Path, dataset: str) -> list[Against]:
    """A line per target and plain booster that left predictions on disk."""
    import polars as pl

    frames = {k: pl.read_parquet(p) for k in KINDS if (p := data / f"{dataset}-{k}.parquet").is_file()}
    found = []
    for kind in KINDS[1:] if OURS in frames else ():
        if kind not in frames:
            continue
        for target in frames[OURS]["target"].unique(maintain_order=True):
            ours, theirs = (frames[k].filter(pl.col("target") == target).sort("row_id") for k in (OURS, kind))
            if not ours["row_id"].equals(theirs["row_id"]):
                raise SystemExit(f"{dataset}: the test rows of {target} of assay and {kind} are not the same")
            found.append(_against(dataset, target, kind, ours, theirs))
    return found


def _against(dataset: str, target: str, kind: str, ours: Any, theirs: Any) -> Against:
    from assay.config.profile import GatesConfig
    from assay.training.champion import compare_losses

    classes = bool(np.isin(ours["actual"].to_numpy(), (0.0, 1.0)).all())
    before = theirs["before"].to_numpy() if dataset in RETURNS else None
    first, second = (_losses(one, classes=classes, before=before) for one in (ours, theirs))
    days = theirs["time"].dt.date().to_physical().to_numpy()
    days = np.arange(len(days)) if len(np.unique(days)) == 1 else days
    known = np.isfinite(first) & np.isfinite(second)  # a share that is new has no value before, and no return
    told = compare_losses(first[known], second[known], days[known], GatesConfig(), seed=7, root=not classes)
    name = "log loss" if classes else "RMSE of returns" if before is not None else "RMSE"
    return Against(dataset, target, kind, name, told.rmse, told.champion_rmse, told.low, told.high)


def _losses(rows: Any, *, classes: bool, before: Any = None) -> Any:
    from assay.class_metrics import log_losses

    actual, told = rows["actual"].to_numpy(), rows["told"].to_numpy()
    if classes:
        return log_losses(actual, np.column_stack([1 - told, told]))
    if before is not None:
        actual, told = np.log(actual / before), np.log(told / before)
    return (actual - told) ** 2


def _less_by(ours: float, theirs: float, low: float, high: float) -> tuple[float, float, float]:
    """Percent of theirs that ours is below it, and the ends of its interval. low, high: of ours minus theirs."""
    return -100 * (ours - theirs) / theirs, -100 * high / theirs, -100 * low / theirs


def skill(data: Path, dataset: str) -> list[str]:
    """Of returns: what each contender's squared error is below that of no return and of the last return, by day."""
    import polars as pl

    from assay.config.profile import GatesConfig
    from assay.training.champion import compare_losses

    plain = next((p for k in KINDS[1:] if (p := data / f"{dataset}-{k}.parquet").is_file()), None)
    if plain is None:
        return []
    base = pl.read_parquet(plain).sort("row_id")
    before, lines = base["before"].to_numpy(), []
    days = base["time"].dt.date().to_physical().to_numpy()
    actual = np.log(base["actual"].to_numpy() / before)
    simple = {"no return": actual**2, "the last return": (actual - base["last_return"].to_numpy()) ** 2}
    for kind in KINDS:
        if not (path := data / f"{dataset}-{kind}.parquet").is_file():
            continue
        found = _losses(pl.read_parquet(path).sort("row_id"), classes=False, before=before)
        for name, theirs in simple.items():
            known = np.isfinite(theirs)
            told = compare_losses(found[known], theirs[known], days[known], GatesConfig(), seed=7)
            gain, low, high = _less_by(told.rmse, told.champion_rmse, told.low, told.high)
            lines.append(f"  {dataset}: skill of {kind} over {name} {gain:+.2f} % ({low:+.2f} to {high:+.2f})")
    return lines


def report(outcome: Outcome) -> tuple[str, Mapping[str, Any]]:
    """A line per target and plain booster, and the times."""
    data = CACHE / f"{outcome.benchmark}-{outcome.rows}"
    lines = [f"research profile against plain boosters with {TRIALS} trials, on the test period:"]
    lines.append(f"{'':45s}{'against':>10s}{'ours':>12s}{'theirs':>12s}{'less by':>9s}   90 % interval")
    every = [one for dataset in DATASETS for one in compared(data, dataset)]
    for one in every:
        less, low, high = _less_by(one.ours, one.theirs, one.low, one.high)
        ran = {f"{one.dataset}:{k}" for k in (OURS, one.contender)} <= set(outcome.seconds)
        lines.append(
            f"{f'{one.dataset}: {one.target}, {one.loss}':45s}{one.contender:>10s}{one.ours:12.5g}{one.theirs:12.5g}"
            f"{less:8.1f}%   {low:.1f} to {high:.1f} %{'' if ran else '  (earlier run)'}"
        )
    for dataset in RETURNS:
        lines += skill(data, dataset)
    lines += [f"  {n}: {s:,.0f} s, {outcome.peak_mb[n]:,.0f} MB" for n, s in outcome.seconds.items()]
    lost = [f"{one.dataset}: {one.target} to {one.contender}" for one in every if one.ours > one.theirs]
    lines.append(f"  lost: {'; '.join(lost) or 'none'}")
    return "\n".join(lines), {"research": [dataclasses.asdict(one) for one in every]}


BENCHMARK = Benchmark(
    name="research",
    rows=1,
    generate=generate,
    contenders={
        f"{dataset}:{kind}": Contender(
            partial(prepare_ours, dataset=dataset)
            if kind == OURS
            else partial(prepare_plain, dataset=dataset, kind=kind),
            run_ours if kind == OURS else run_plain,
            outputs_ours if kind == OURS else outputs_plain,
            against=f"{dataset}:{OURS}",
        )
        for dataset in DATASETS
        for kind in KINDS
    },
    report=report,
    repeats=1,
)
