"""Consumes real data sets, compares what refitting on the newest rows and calibrating forward are worth on later rows.

Of each data set one model is trained on features, and its test period is predicted:

* `held_back`: by the model that learned from train and tune, calibrated by its own errors on the calibration period;
* `refit`: by the same model fitted again on all rows known before the test period, with errors of the held-back one;
* `refit_3`, `refit_5`: by the same refitted model, with errors of 3 or 5 blocks of the calibration period, each made by
  a model that had learned from all rows known before its block (`conformal.folds`).

All are calibrated by the product's own code, per segment where that has rows enough, with absolute scores: as they were
fitted, and (`+ follows`) with widths that follow their misses through the test period, as the profile production has
them. `r2` and `rmse` are of the predictions; `worst_segment`, `worst_month`, widths and interval scores are those of
`benchmark coverage`. The last line says what the whole training took with the fits of 3 and of 5 blocks.
Data are looked for where their YAML says, in the current folder and in `$ASSAY_DATA`. `--only 'kc_house:*'` runs one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._intervals import COLUMNS, FIGURES, figures, finite, line
from benchmarks._real import generate, observed, opened
from benchmarks.coverage import DATASETS, LEVELS, ONE_TARGET, TOLD, Forecasts
from benchmarks.harness import OURS, Benchmark, Contender, Outcome

FOLDS = (3, 5)
FORWARD = {folds: f"refit_{folds}" for folds in FOLDS}
FOLLOWS = " + follows"
METHODS = tuple(f"{name}{how}" for how in ("", FOLLOWS) for name in ("held_back", "refit", *FORWARD.values()))
POINT = ("r2", "rmse", "seconds")


def overrides(dataset: str, folds: int) -> list[str]:
    """The `--set` texts of a training run."""
    return [
        "training.force_production_quality=false",
        f"conformal.folds={folds}",
        f"conformal.levels={list(LEVELS)}",
        *ONE_TARGET.get(dataset, []),
    ]


def prepare(data: Path, dataset: str) -> Any:
    """A fresh workspace with the observations, and a context for each number of blocks."""
    workspace = data / "runs" / dataset
    first, *others = FOLDS
    contexts = {first: observed(dataset, workspace, overrides(dataset, first))}
    return contexts | {folds: opened(dataset, workspace, overrides(dataset, folds)) for folds in others}


def run(state: Any) -> Any:
    """Features, then a training for each number of blocks: number -> context, MLflow run and seconds."""
    from assay.pipeline import JOBS
    from assay.runtime.job import run_stage
    from assay.training import job as training

    JOBS["build_features"].run(state[FOLDS[0]])
    found = {}
    for folds, context in state.items():
        started = time.monotonic()
        learned = run_stage(context, training.plan(context, context.config.dataset.targets[0], None))
        found[folds] = (context, learned.run_id, time.monotonic() - started)
    return found


def outputs(state: Any) -> Mapping[str, float]:
    """Figures as `method|level|figure`, those of predictions with level `point`."""
    from assay.conformal.blocks import Block, calibration_blocks
    from assay.model.registry import load_trained
    from assay.runtime.conditions import period_conditions

    found: dict[str, float] = {}
    for folds, (context, run_id, seconds) in state.items():
        trained = load_trained(context.tracking, run_id, blocks=True)
        test = period_conditions(trained.model.facts["split"]["test"])
        forward = calibration_blocks(trained, folds=folds)
        methods = {FORWARD[folds]: (forward, trained.model)}
        if folds == FOLDS[0]:
            whole = calibration_blocks(trained, folds=1)
            methods |= {"held_back": (whole, trained.held_back), "refit": (whole, trained.model)}
        for method, (blocks, model) in methods.items():
            known = [_forecasts(context, block) for block in blocks]
            found |= _figures(context, method, known, _forecasts(context, Block("test", 1, model, test)))
        found[f"{FORWARD[folds]}|point|seconds"] = seconds
    for context, _, _ in state.values():
        context.close()
    return found


def _figures(context: Any, method: str, known: list[Any], later: Any) -> dict[str, float]:
    """Of one method. known: rows of `TOLD` that calibrate, with the forecasts of the models that score them."""
    import polars as pl

    from assay.config.dataset import stored_name
    from assay.conformal import SCORES, AbsoluteResidual, Forecast, fit
    from assay.metrics import point_metrics

    calibrate = pl.concat(known)
    conformal, dataset = context.config.profile.conformal, context.config.dataset
    log = dataset.targets[0].transform == "log"
    centre, zero = (later[name].to_numpy() for name in ("centre", "zero"))
    segments, times = _labels(later), later["time"].dt.replace_time_zone(None).to_numpy()
    calibration = fit(
        _errors(calibrate),
        _labels(calibrate),
        LEVELS,
        min_segment_rows=conformal.min_segment_rows,
        segment_columns=tuple(stored_name(s) for s in dataset.segments),
    )
    quantiles = {method: calibration.quantiles_for(segments)[0]}
    quantiles[f"{method}{FOLLOWS}"] = _following(context, calibration, calibrate, later)

    def in_unit(values: Any) -> Any:
        return zero * np.exp(values) if log else zero + values

    y = in_unit(later["y"].to_numpy())
    point = point_metrics(y, in_unit(centre))
    told = {f"{name}|point|{figure}": point[figure] for name in quantiles for figure in ("r2", "rmse")}
    for name, found in quantiles.items():
        lower, upper = SCORES[AbsoluteResidual.name].interval(Forecast.of(centre), found, LEVELS)
        for place, level in enumerate(LEVELS):
            bounds = in_unit(lower[:, place]), in_unit(upper[:, place])
            each = figures(y, bounds, segments, times, level)
            told |= {f"{name}|{level}|{figure}": value for figure, value in each.items()}
    return told


def _following(context: Any, calibration: Any, calibrate: Any, later: Any) -> Any:
    """Quantiles of later rows, (n, levels), that follow their misses."""
    import datetime as dt

    from assay.conformal.following import Known, followed, own_step_days
    from assay.conformal.pace import Pace

    conformal, dataset = context.config.profile.conformal, context.config.dataset
    times = [frame["time"].dt.replace_time_zone(None).to_numpy() for frame in (calibrate, later)]
    pace = Pace.of(conformal, step_days=own_step_days(times[0]), delay_days=dataset.delay_days(dataset.targets[0].name))
    labels, errors = ([told(frame) for frame in (calibrate, later)] for told in (_labels, _errors))
    known = Known(np.concatenate(labels), np.concatenate(times), np.concatenate(errors)[:, None])
    origin, until = (end.astype("datetime64[us]").item().replace(tzinfo=dt.timezone.utc) for end in _ends(times[1]))
    follows = followed(known, calibration, pace, origin=origin, until=until)
    distinct, rows = np.unique(labels[1].astype(str), return_inverse=True)
    return follows.quantiles_for(distinct.tolist(), rows, times[1])[0]


def _ends(times: Any) -> tuple[Any, Any]:
    return times.min(), times.max()


def _errors(frame: Any) -> Any:
    """Absolute errors of rows, (n,)."""
    return np.abs(frame["y"].to_numpy() - frame["centre"].to_numpy())


def _labels(frame: Any) -> Any:
    """Segments of rows, (n,) texts."""
    return frame["segment"].to_numpy().astype(object)


def _forecasts(context: Any, block: Any) -> Any:
    """Rows of a block with known outcomes: `TOLD`, and the forecast as `centre`."""
    import polars as pl

    from assay.config.dataset import stored_name
    from assay.model.carried import Carried
    from assay.runtime.conditions import Condition

    segments = tuple(stored_name(s) for s in context.config.dataset.segments)
    column, model = stored_name(context.config.dataset.targets[0].name), block.model
    columns = list(dict.fromkeys(["row_id", "time", *model.input_columns, *segments, column]))
    where = [Condition(column, "not_null"), *block.where]
    read = context.plane.read("features", version=context.plane.version("features"), columns=columns, where=where)
    frame = pl.from_arrow(read.map(Forecasts(Carried.of(model), segments), TOLD).collect())
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(centre=pl.col("told").list.first())


def report(outcome: Outcome) -> tuple[str, Mapping[str, Any]]:
    """A line per data set, level and method, and the same as a list of objects."""
    lines = [f"{'':44s}{'R²':>7s}{'RMSE':>10s}{COLUMNS}"]
    found: list[dict[str, Any]] = []
    for name, told in outcome.outputs.items():
        dataset = name.partition(":")[0]
        for level in LEVELS:
            for method in METHODS:
                each = {f: told.get(f"{method}|{level}|{f}", math.nan) for f in FIGURES}
                each |= {f: told.get(f"{method}|point|{f}", math.nan) for f in POINT}
                if math.isnan(each["rows"]):
                    continue
                found.append({"dataset": dataset, "method": method, "level": level, **finite(each)})
                name_of = f"{dataset} {level:.0%} {method}"
                lines.append(f"{name_of:44s}{each['r2']:7.3f}{each['rmse']:10.5g}{line(each)}")
        taken = ", ".join(f"{folds} blocks {told[f'{FORWARD[folds]}|point|seconds']:.0f} s" for folds in FOLDS)
        lines.append(f"{dataset}: training with {taken}")
    return "\n".join(lines), {"refit": found}


BENCHMARK = Benchmark(
    name="refit",
    rows=0,
    generate=generate,
    contenders={
        f"{dataset}:{OURS}": Contender(partial(prepare, dataset=dataset), run, outputs, against=f"{dataset}:{OURS}")
        for dataset in DATASETS
    },
    report=report,
    repeats=1,
)
