"""Consumes real data sets, compares intervals on later rows: how many outcomes they hold, and how wide they are.

Of each data set one model is trained on features, and its test period is scored forward in time:

* `assay`: the jobs `train` and `score` with the profile production as it is, whose intervals follow their misses in
  time; `assay_aci`: the same scores, followed by `conformal.adaptive_way=aci`; `assay_fitted`: the same widths as they
  were fitted, per segment, never moved; `assay_cqr`: the corrected quantiles of a second model (`conformal.score=cqr`),
  which follow in the same way as `assay`;
* `split`: plain split conformal, one width for all rows; `mapie` and `crepes`: the better by interval score of MAPIE's
  split conformal and conformalised quantile regressors, and of crepes' conformal regressor with and without segments
  (Mondrian), all around the same predictions and calibrated on the same period;
* `quantiles`: quantiles that XGBoost learned of the same inputs, corrected by nothing.

The better one of a library is chosen by its score on the test period itself, which flatters it. `worst_segment` is the
coverage farthest from the promise among segments of 500 rows or more, `worst_month` among calendar months of 100 rows
or more. `chance` beside each is how far off the worst one is in one draw of twenty: of segments where every day's rows
are as likely hit too often as too seldom, of months where the same days are dealt to them anew. Last it says in what
share of those draws all segments are within 3 points and all months within 5, and what each method leaves farther off
than that. `split_needs` is how wide plain split would have to be to hold as many rows as the line's method does, were
it told afterwards which width does; `split_needs_in_segments` and `split_needs_in_months` the same with a width for
each segment and each month, so that it holds as many in each. Widths and interval scores (Gneiting and Raftery 2007;
less is better) are means in the target's unit. Data are looked for where their YAML says, in the current folder and in
`$ASSAY_DATA`. `--only 'kc_house:*'` runs one of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._intervals import (
    COLUMNS,
    FIGURES,
    NEEDS,
    OTHERS,
    POINTS,
    WANTED,
    Bounds,
    Floats,
    Rows,
    figures,
    finite,
    line,
    widths_needed,
)
from benchmarks._real import generate, observed, opened
from benchmarks.harness import OURS, Benchmark, Contender, Outcome

DATASETS = ("kc_house", "walmart_weekly", "sp500_daily", "orange_juice_profit", "epex_fr_spot")
ONE_TARGET = {  # of several
    "orange_juice_profit": ["dataset.targets=[{name: profit, relative_to: last_value}]", "dataset.decision={}"]
}
LEVELS = (0.8, 0.9)
QUANTILES = ["engine.quantiles=[0.05, 0.1, 0.5, 0.9, 0.95]", "engine.rounds=200"]  # five trees a round
ENDS = {0.8: (1, 3), 0.9: (0, 4)}  # places of a level's quantiles among those
TAILS = {0.8: (0.1, 0.9), 0.9: (0.05, 0.95)}
QUANTILE_PLACES = [0, 1, 3, 4]
METHODS = (OURS, "assay_aci", "assay_fitted", "assay_cqr", "split", "mapie", "crepes", "quantiles")
TOLD = pa.schema(
    [
        pa.field("row_id", pa.int64()),
        pa.field("time", pa.timestamp("us", "UTC")),
        pa.field("segment", pa.string()),
        pa.field("y", pa.float64()),
        pa.field("zero", pa.float64()),
        pa.field("scale", pa.float64()),
        pa.field("told", pa.list_(pa.float64())),
    ]
)


def overrides(dataset: str) -> list[str]:
    """The `--set` texts of a data set."""
    return [
        "training.force_production_quality=false",
        f"conformal.levels={list(LEVELS)}",
        "explain.rows=0",
        *ONE_TARGET.get(dataset, []),
    ]


def prepare(data: Path, dataset: str) -> Any:
    """A fresh workspace with the observations, and a second context for the model of quantiles."""
    workspace = data / "runs" / dataset
    context = observed(dataset, workspace, overrides(dataset))
    return context, opened(dataset, workspace, [*overrides(dataset), *QUANTILES])


def run(state: Any) -> Any:
    """Features, training, calibration, scoring; then training of quantiles."""
    from assay.pipeline import JOBS
    from assay.runtime.job import run_stage
    from assay.training import job as training

    context, quantiles = state
    for job in ("build_features", "train", "score"):
        JOBS[job].run(context)
    learned = run_stage(quantiles, training.plan(quantiles, quantiles.config.dataset.targets[0], None))
    return context, quantiles, learned.run_id


def outputs(state: Any) -> Mapping[str, float]:
    """Figures as `method|level|figure`."""
    context, quantiles, run_id = state
    found = _figures(context, run_id)
    context.close()
    quantiles.close()
    return {f"{m}|{level}|{name}": v for (m, level), each in found.items() for name, v in each.items()}


def _figures(context: Any, quantile_run: str) -> dict[tuple[str, float], dict[str, float]]:
    from assay.conformal import Calibration
    from assay.conformal.pace import DAMPING_ROWS, SINGLE, STEP_SIZE
    from assay.model.registry import champion, load_trained

    target = context.config.dataset.targets[0]
    found = champion(context.tracking, target.name)
    mean, quantile = (load_trained(context.tracking, run) for run in (found.run_id, quantile_run))
    calibration = Calibration.from_dict((found.tested or found).calibration)
    calibrate, known = _rows(context, mean, quantile, "calibrate", calibration.difficulty)
    test, frame = _rows(context, mean, quantile, "test", calibration.difficulty)
    log = found.judged.scale.transform == "log"
    zero = frame["zero"].to_numpy()

    def in_unit(bounds: Bounds) -> Bounds:
        lower, upper = (zero * np.exp(end) if log else zero + end for end in bounds)
        return lower, upper

    y, times = in_unit((test.y, test.y))[0], frame["time"].dt.replace_time_zone(None).to_numpy()

    def measured(bounds: Bounds, level: float) -> dict[str, float]:
        inside = (y >= bounds[0]) & (y <= bounds[1])
        return {
            **figures(y, bounds, test.segments, times, level),
            **widths_needed(test, inside, times, in_unit),
        }

    every: dict[tuple[str, float], dict[str, float]] = {}
    pace, periods = Calibration.from_dict(found.calibration).pace, ((calibrate, known), (test, frame))
    aci = dataclasses.replace(pace, way=SINGLE, step_size=STEP_SIZE[SINGLE], damping_rows=DAMPING_ROWS[SINGLE])
    followed = {
        "assay_aci": _followed(found, calibration.score, aci, *periods),
        "assay_cqr": _followed(found, "cqr", pace, *periods),
    }
    for place, level in enumerate(LEVELS):
        label = f"{level * 100:g}"
        ours = (frame[f"lower_{label}"].to_numpy(), frame[f"upper_{label}"].to_numpy())
        every[OURS, level] = measured(ours, level)
        every["assay_fitted", level] = measured(in_unit(_fitted(calibration, test, frame, level)), level)
        for method, (lower, upper) in followed.items():
            every[method, level] = measured(in_unit((lower[:, place], upper[:, place])), level)
        for method, kinds in OTHERS.items():
            told = [(_at(calibrate, level), _at(test, level), kind) for kind in kinds.values()]
            each = [measured(in_unit(kind(known, new, level)), level) for known, new, kind in told]
            every[method, level] = min(each, key=lambda one: one["interval_score"])
    return every


def _fitted(calibration: Any, test: Rows, frame: Any, level: float) -> Bounds:
    """Intervals with the tested model's calibration as it was fitted."""
    from assay.conformal import SCORES, Forecast

    labels, rows = np.unique(test.segments.astype(str), return_inverse=True)
    quantiles = calibration.quantiles_for(labels.astype(object))[0][rows]
    forecast = Forecast(test.prediction, frame["scale"].to_numpy())
    lower, upper = SCORES[calibration.score].interval(forecast, quantiles, calibration.levels)
    place = calibration.levels.index(level)
    return lower[:, place], upper[:, place]


def _followed(found: Any, kind: str, pace: Any, *periods: tuple[Rows, Any]) -> Bounds:
    """Intervals by a kind of score and a pace, of the rows of the last period, (n, levels) each."""
    import datetime as dt

    from assay.conformal import SCORES, Forecast, fit
    from assay.conformal.following import Known, followed
    from assay.conformal.scores import nested

    ends = tuple(sorted({tail for pair in TAILS.values() for tail in pair}))
    told = [
        Forecast(rows.prediction, frame["scale"].to_numpy(), rows.quantiles[:, QUANTILE_PLACES], ends)
        for rows, frame in periods
    ]
    score = SCORES[kind]
    scores = [score.score(rows.y, each, LEVELS) for (rows, _), each in zip(periods, told, strict=True)]
    times = [frame["time"].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]") for _, frame in periods]
    segments = [rows.segments for rows, _ in periods]
    least = found.calibration["min_segment_rows"]
    fitted = fit(scores[0], segments[0], LEVELS, min_segment_rows=least, score=kind)
    known = Known(*(np.concatenate(each) for each in (segments, times, scores)))
    until = times[-1].max().item().replace(tzinfo=dt.timezone.utc)
    follows = followed(known, fitted, pace, origin=found.judged.test_start, until=until)
    labels, rows = np.unique(segments[-1].astype(str), return_inverse=True)
    quantiles, _ = follows.quantiles_for(labels.tolist(), rows, times[-1])
    return nested(*score.interval(told[-1], quantiles, LEVELS), LEVELS)


def _at(rows: Rows, level: float) -> Rows:
    """The rows with the quantiles of one level."""
    return dataclasses.replace(rows, quantiles=rows.quantiles[:, list(ENDS[level])])


def _rows(context: Any, mean: Any, quantile: Any, period: str, difficulty: Any) -> tuple[Rows, Any]:
    """Rows of a period with both models' forecasts; of the test period with the intervals that were scored."""
    import polars as pl

    from assay.runtime.conditions import Condition

    told = {}
    for name, trained in (("mean", mean), ("quantiles", quantile)):
        model = (trained.held_back or trained.model) if period == "calibrate" else trained.model
        usual = difficulty if name == "mean" else None
        told[name] = _forecasts(context, model, trained.model.facts["split"][period], usual).sort("row_id")
    frame = told["mean"]
    if frame["row_id"].to_list() != told["quantiles"]["row_id"].to_list():
        raise AssertionError("both models are asked of the same rows")
    rows = Rows(
        frame["y"].to_numpy(),
        frame["told"].list.first().to_numpy(),
        np.array(told["quantiles"]["told"].to_list()),
        frame["segment"].to_numpy().astype(object),
    )
    if period != "test":
        return rows, frame
    where = [Condition("target", "==", context.config.dataset.targets[0].name)]
    scored = context.plane.read("predictions", version=context.plane.version("predictions"), where=where).collect()
    predictions = pl.from_arrow(scored)
    assert isinstance(predictions, pl.DataFrame)
    bounds = [f"{end}_{level * 100:g}" for level in LEVELS for end in ("lower", "upper")]
    return rows, frame.join(predictions.select("row_id", *bounds), on="row_id", how="left").sort("row_id")


def _forecasts(context: Any, model: Any, period: Mapping[str, Any], difficulty: Any) -> Any:
    """Rows of `TOLD` of a period with known outcomes."""
    import polars as pl

    from assay.config.dataset import stored_name
    from assay.model.carried import Carried
    from assay.runtime.conditions import Condition, period_conditions

    segments = tuple(stored_name(s) for s in context.config.dataset.segments)
    column = stored_name(context.config.dataset.targets[0].name)
    columns = list(dict.fromkeys(["row_id", "time", *model.input_columns, *segments, column]))
    where = [Condition(column, "not_null"), *period_conditions(period)]
    read = context.plane.read("features", version=context.plane.version("features"), columns=columns, where=where)
    return pl.from_arrow(read.map(Forecasts(Carried.of(model), segments, difficulty), TOLD).collect())


@dataclasses.dataclass(frozen=True)
class Forecasts:
    """Kernel: outcomes and forecasts on the model's scale, and what its 0 is in the target's unit.

    difficulty: how large an error is usual for a row; 1 for all without one.
    """

    carried: Any
    segments: tuple[str, ...]
    difficulty: Any = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `TOLD`."""
        from assay.conformal.intervals import labels_of

        model = self.carried.model()
        for batch in batches:
            if model.outcome.kind == "quantiles":
                told: Floats = model.scaled_quantiles(batch)[0]
            else:
                told = model.predict_scaled(batch)[:, None]
            zero = model.scale.inverse(np.zeros(batch.num_rows), batch)
            lists = pa.FixedSizeListArray.from_arrays(told.ravel(), told.shape[1]).cast(TOLD.field("told").type)
            usual = self.difficulty
            scale = np.ones(batch.num_rows) if usual is None else usual.of(batch, model.encoding)
            keys = [batch.column("row_id"), batch.column("time"), labels_of(batch, self.segments)]
            numbers = [pa.array(each) for each in (model.truth(batch), zero, scale)]
            yield pa.record_batch([*keys, *numbers, lists], schema=TOLD)


def report(outcome: Outcome) -> tuple[str, Mapping[str, Any]]:
    """A line per data set, method and level, and what is worse than chance; the same as a list of objects."""
    lines = [f"{'':36s}{COLUMNS}"]
    found: list[dict[str, Any]] = []
    beyond: dict[str, list[str]] = {method: [] for method in METHODS}
    farther: dict[str, list[str]] = {method: [] for method in METHODS}
    for name, told in outcome.outputs.items():
        dataset = name.partition(":")[0]
        for level in LEVELS:
            for method in METHODS:
                each = {figure: told.get(f"{method}|{level}|{figure}", math.nan) for figure in (*FIGURES, *NEEDS)}
                if math.isnan(each["rows"]):
                    continue
                found.append({"dataset": dataset, "method": method, "level": level, **finite(each)})
                lines.append(f"{f'{dataset} {level:.0%} {method}':36s}{line(each)}")
                for kind, points in POINTS.items():
                    off = abs(each[f"worst_{kind}"] - level)
                    if off > each[f"{kind}_by_chance"]:
                        beyond[method].append(f"{kind} of {dataset} at {level:.0%}")
                    if off > points:
                        farther[method].append(f"{kind} of {dataset} at {level:.0%}")
    lines.append(
        "Width of ours against what split needs, told afterwards, to hold as many: of all rows, of each segment's,"
    )
    lines.append("of each month's; and of split as it was fitted, against the same for its own:")
    for each in found:
        if each["method"] in (OURS, "split"):
            told = ", ".join(_more(each["mean_width"], each[name]) for name in NEEDS)
            lines.append(f"  {each['dataset']} {each['level']:.0%} {each['method']}: {told}")
    lines.append("Share of draws in which chance leaves every segment within 3 points, and every month within 5:")
    for each in found:
        if each["method"] == OURS:
            told = ", ".join("-" if each[name] is None else f"{each[name]:.0%}" for name in WANTED)
            lines.append(f"  {each['dataset']} {each['level']:.0%}: {told}")
    lines.append("Worst ones that are farther off than chance:")
    lines += [f"  {method}: {', '.join(told) or 'none'}" for method, told in beyond.items()]
    lines.append("Worst ones that are farther off than 3 points in a segment, and 5 in a month:")
    lines += [f"  {method}: {', '.join(told) or 'none'}" for method, told in farther.items()]
    return "\n".join(lines), {"coverage": found}


def _more(width: float | None, needed: float | None) -> str:
    return "-" if width is None or not needed else f"{width / needed - 1:+.1%}"


BENCHMARK = Benchmark(
    name="coverage",
    rows=0,
    generate=generate,
    contenders={
        f"{dataset}:{OURS}": Contender(partial(prepare, dataset=dataset), run, outputs, against=f"{dataset}:{OURS}")
        for dataset in DATASETS
    },
    report=report,
    repeats=1,
)
