"""Consumes drawn scores of 1,000 segments, compares conformal quantiles, and adaptive intervals over 365 days.

`assay`, `weighted`: exact quantiles of every segment at two levels, of rows alike and by weight; `polars`: its group-by
quantile of the same scores, the nearest thing that it has (no weights, and a rank apart).
`dtaci`: the same as `adaptive` by eight step sizes at once; `widths`: by widths themselves, as profiles have it.
`adaptive`: miscoverage and quantiles of all segments, and of all rows together, at each of 365 days, 10 rows a segment
and day, 30 days kept. `mapie_adaptive`: MAPIE's loop of `predict`, `adapt_conformal_inference` and `update` over a few
of the segments, because all would take most of an hour; its time is that of the few, and the ratio is scaled up.
MAPIE moves alpha after each row, we after each day by as much as ten rows do.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Benchmark, Contender, Outcome

SEGMENTS, DAYS, WINDOW, PER_DAY = 1000, 365, 30, 10
MAPIE_SEGMENTS = 4
LEVELS = (0.8, 0.9)
STEP_SIZE = 0.005  # per row
ROWS_PER_SEGMENT = 10_000  # of the quantiles; fewer rows mean fewer segments of the adaptive part


def generate(folder: Path, rows: int) -> None:
    """Scores with a code and a weight; and a panel of scores (segments, days, rows of a day) that swells twice."""
    rng = np.random.default_rng(7)
    scale = rng.lognormal(0, 0.5, SEGMENTS)
    codes = rng.integers(0, SEGMENTS, rows)
    np.save(folder / "codes.npy", codes)
    np.save(folder / "scores.npy", scale[codes] * np.abs(rng.standard_t(4, rows)))
    np.save(folder / "weights.npy", np.exp2(-rng.integers(0, 365, rows) / 60))  # by age, half every 60 days
    segments = min(SEGMENTS, max(MAPIE_SEGMENTS, rows // ROWS_PER_SEGMENT))
    days = np.arange(-WINDOW, DAYS)
    swell = 1 + 0.5 * np.sin(2 * np.pi * days / 180)[:, None]
    panel = scale[:segments, None, None] * swell * np.abs(rng.standard_t(4, (segments, len(days), PER_DAY)))
    np.save(folder / "panel.npy", panel)


def prepare(data: Path) -> Any:
    """Arrays in memory, imports done."""
    import polars  # noqa: F401

    import assay.conformal  # noqa: F401

    return tuple(np.load(data / f"{name}.npy") for name in ("codes", "scores", "weights"))


def run_ours(state: Any) -> Any:
    """All rows alike."""
    from assay.conformal import grouped_quantiles

    codes, scores, _ = state
    return grouped_quantiles(codes, scores, SEGMENTS, LEVELS)[0]


def run_weighted(state: Any) -> Any:
    """Rows by their weights."""
    from assay.conformal import grouped_weighted_quantiles

    codes, scores, weights = state
    return grouped_weighted_quantiles(codes, scores, weights, SEGMENTS, LEVELS)[0]


def run_polars(state: Any) -> Any:
    """Group-by quantiles."""
    import polars as pl

    codes, scores, _ = state
    quantiles = [pl.col("score").quantile(level, "higher").alias(str(level)) for level in LEVELS]
    return pl.DataFrame({"code": codes, "score": scores}).group_by("code").agg(quantiles).drop("code").to_numpy()


def outputs(quantiles: Any) -> Mapping[str, float]:
    """Mean quantile of the segments."""
    return {f"mean_{level:.0%}": float(mean) for level, mean in zip(LEVELS, quantiles.mean(axis=0), strict=True)}


def prepare_adaptive(data: Path) -> Any:
    """Rows as `adapt` takes them."""
    import assay.conformal  # noqa: F401

    panel = np.load(data / "panel.npy")
    segment, day, _ = (index.ravel() for index in np.indices(panel.shape))
    return segment, panel.ravel(), day - WINDOW


def run_adaptive(state: Any) -> Any:
    """All days of all segments, as MAPIE's loop has it: the share of misses that is aimed at moves."""
    return _adapted(state)


def run_dtaci(state: Any) -> Any:
    """The same by eight step sizes, weighted by how well each did."""
    from assay.conformal.experts import STEP_SIZES

    return _adapted(state, step_sizes=STEP_SIZES)


def run_widths(state: Any) -> Any:
    """The same by widths themselves."""
    return _adapted(state, above_zero=(True,) * len(LEVELS))


def _adapted(state: Any, **way: Any) -> Any:
    from assay.conformal import Adaptation, ScoredRows, adapt, nested_groups

    segment, scores, at = state
    groups, parents = nested_groups(np.column_stack([segment, np.zeros_like(segment)]))
    rows = ScoredRows(groups, scores, at, np.where(at < 0, 0, at + 1))
    how = Adaptation(LEVELS, step_size=STEP_SIZE * PER_DAY, damping_rows=0, min_rows=1, window=WINDOW, **way)
    return rows, adapt(rows, parents, how, stop=DAYS)


def outputs_adaptive(result: Any) -> Mapping[str, float]:
    """Coverage at each level, and how many segments."""
    rows, timeline = result
    judged = rows.where(rows.at >= 0)
    covered = judged.scores <= timeline.quantiles_for(judged.groups, judged.at)
    coverage = {
        f"coverage_{level:.0%}": float(share) for level, share in zip(LEVELS, covered.mean(axis=0), strict=True)
    }
    return {**coverage, "segments": float(timeline.shape[1] - 1)}


def prepare_mapie(data: Path) -> Any:
    """The first segments' scores, in order of time, and one model of each, calibrated on what comes before day 0."""
    from mapie.conformity_scores import AbsoluteConformityScore
    from mapie.regression import TimeSeriesRegressor
    from sklearn.dummy import DummyRegressor

    warnings.simplefilter("ignore")
    panel = np.load(data / "panel.npy")[:MAPIE_SEGMENTS]
    zero = DummyRegressor(strategy="constant", constant=0.0).fit(np.zeros((1, 1)), np.zeros(1))
    models = []
    for segment in panel:
        known = segment[:WINDOW].ravel()
        score = AbsoluteConformityScore(sym=True)
        model = TimeSeriesRegressor(zero, method="aci", cv="prefit", conformity_score=score)
        models.append(model.fit(np.zeros((len(known), 1)), known))
    return panel[:, WINDOW:], models


def run_mapie(state: Any) -> Any:
    """Day after day: intervals of the day's rows, then their outcomes."""
    panel, models = state
    inputs, covered = np.zeros((PER_DAY, 1)), np.zeros(len(LEVELS))
    for segment, model in zip(panel, models, strict=True):
        for day in segment:
            _, bounds = model.predict(inputs, confidence_level=list(LEVELS))
            covered += (day[:, None] <= bounds[:, 1]).sum(axis=0)
            model.adapt_conformal_inference(inputs, day, gamma=STEP_SIZE, confidence_level=list(LEVELS))
            model.update(inputs, day)
    return covered / panel.size, len(models)


def outputs_mapie(result: Any) -> Mapping[str, float]:
    """Coverage at each level, and how many segments."""
    covered, segments = result
    coverage = {f"coverage_{level:.0%}": float(share) for level, share in zip(LEVELS, covered, strict=True)}
    return {**coverage, "segments": float(segments)}


def report(outcome: Outcome) -> tuple[str, Mapping[str, Any]]:
    """The usual table, then what is divided by what: quantiles by Polars' time, days by MAPIE's at as many segments."""
    seconds, ratios = outcome.seconds, {}
    lines = [outcome.table()]
    for ours in ("assay", "weighted"):
        if ours in seconds and "polars" in seconds:
            ratios["polars" if ours == "assay" else "polars_weighted"] = ratio = seconds[ours] / seconds["polars"]
            lines.append(f"{ours}: {ratio:.2f} of the time of Polars' group-by quantile (floor: 2)")
    for ours in ("adaptive", "widths", "dtaci"):
        if not {ours, "mapie_adaptive"} <= set(seconds):
            continue
        all_of, few = (outcome.outputs[name]["segments"] for name in (ours, "mapie_adaptive"))
        scaled = seconds["mapie_adaptive"] * all_of / few
        ratios[f"mapie_{ours}"] = seconds[ours] / scaled
        lines.append(
            f"{ours}: {scaled / seconds[ours]:,.0f} times faster than MAPIE's loop, which ran {few:.0f} of "
            f"{all_of:.0f} segments in {seconds['mapie_adaptive']:.1f} s; scaled up, {scaled:,.0f} s (floor: 100)"
        )
    return "\n".join(lines), {"ratios": ratios}


BENCHMARK = Benchmark(
    name="conformal",
    rows=10_000_000,
    generate=generate,
    contenders={
        "assay": Contender(prepare, run_ours, outputs),
        "weighted": Contender(prepare, run_weighted, outputs, against="weighted"),
        "polars": Contender(prepare, run_polars, outputs),
        "adaptive": Contender(prepare_adaptive, run_adaptive, outputs_adaptive, against="adaptive"),
        "widths": Contender(prepare_adaptive, run_widths, outputs_adaptive, against="widths"),
        "dtaci": Contender(prepare_adaptive, run_dtaci, outputs_adaptive, against="dtaci"),
        "mapie_adaptive": Contender(prepare_mapie, run_mapie, outputs_mapie, against="mapie_adaptive", needs="mapie"),
    },
    report=report,
)
