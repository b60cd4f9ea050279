"""Consumes a clean source and one with each fault planted, checks that the fault's metric finds it, and no other."""

from __future__ import annotations

import pytest
from quality_harness import clean_rows, report, run_config, write_csv

from assay.config.quality import METRICS

PERFECT = {name: 1.0 if metric.at_least else 0.0 for name, metric in METRICS.items()}


def values(found):
    return {v.measure.metric: v.measure.value for v in found.assessment.verdicts}


def changed(rows, index, **change):
    return [row | change if place == index else row for place, row in enumerate(rows)]


def test_a_clean_source_is_perfect_in_all_fifteen(tmp_path):
    found = report(run_config(tmp_path), write_csv(tmp_path / "shops.csv", clean_rows()))
    assert len(PERFECT) == 15
    assert values(found) == PERFECT
    assert found.assessment.scores == dict.fromkeys(("completeness", "consistency", "validity", "overall"), 100.0)
    assert {v.status for v in found.assessment.verdicts} == {"ok"}
    assert found.advice == {}
    assert found.refusals == []
    assert found.summary == ["quality 100.0 of 100: completeness 100.0, consistency 100.0, validity 100.0"]


# What each fault does: metric -> the share it leaves. Other metrics stay perfect, but for those that say the same.
N = 240
FAULTS = {
    "completeness": (lambda r: changed(r, 7, low=""), {"completeness": 1 - 1 / (6 * N)}),
    "time_gaps": (lambda r: r[:20] + r[23:], {"time_gaps": 3 / N}),
    "staleness": (
        lambda r: [row for row in r if row["shop"] != "s3" or row["day"] < "2019-11-20"],
        {"staleness": 1 / 4},
    ),
    "duplicate_rows": (
        lambda r: [r[0], *r],
        {"duplicate_rows": 1 / (N + 1), "duplicate_keys": 1 / (N + 1)},
    ),
    "duplicate_keys": (lambda r: [r[0] | {"sales": "77"}, *r], {"duplicate_keys": 1 / (N + 1)}),
    "ordering": (lambda r: [*r[:5], r[6], r[5], *r[7:]], {"ordering": 1 - 1 / (N - 4)}),
    "constant_columns": (lambda r: [row | {"town": "t"} for row in r], {"constant_columns": 1 / 5}),
    "cross_column": (lambda r: changed(r, 9, low="50"), {"cross_column": 1 - 1 / N}),
    "type_validity": (lambda r: changed(r, 9, low="much"), {"type_validity": 1 - 1 / (6 * N)}),
    "range_validity": (lambda r: changed(r, 9, low="-5000"), {"range_validity": 1 - 1 / (3 * N)}),
    "category_validity": (lambda r: changed(r, 9, kind="c"), {"category_validity": 1 - 1 / N}),
    "date_validity": (lambda r: [*r, r[-1] | {"day": "yesterday"}], {"date_validity": 1 - 1 / (N + 1)}),
    "future_dates": (lambda r: [*r, r[-1] | {"day": "2031-01-01"}], {"future_dates": 1 / (N + 1)}),
    "outlier_share": (lambda r: changed(r, 9, high="9000"), {"outlier_share": 1 / (3 * N)}),
    "target_validity": (lambda r: changed(r, 9, sales="-4"), {"target_validity": 1 - 1 / N}),
}
BESIDE = {  # a wild number is far out whatever else it is
    "cross_column": {"outlier_share"},
    "range_validity": {"outlier_share"},
    "target_validity": {"outlier_share"},
}


@pytest.mark.parametrize("metric", list(METRICS))
def test_each_planted_fault_is_found_by_its_metric_alone(tmp_path, metric):
    plant, expected = FAULTS[metric]
    found = report(run_config(tmp_path), write_csv(tmp_path / "shops.csv", plant(clean_rows())))
    shares = values(found)
    for name, share in (PERFECT | expected).items():
        if name not in BESIDE.get(metric, set()):
            assert shares[name] == pytest.approx(share, abs=1e-12), name
    verdict = next(v for v in found.assessment.verdicts if v.measure.metric == metric)
    assert verdict.points > 0
    assert found.assessment.scores["overall"] < 100


KEYS = {
    "completeness": "dataset.source.null_values",
    "time_gaps": "dataset.quality.frequency",
    "staleness": "dataset.quality.max_age_days",
    "duplicate_rows": "dataset.duplicates=keep_last",
    "duplicate_keys": "dataset.entity",
    "ordering": "dataset.time.format",
    "constant_columns": "'town' (dataset.columns.categorical)",
    "cross_column": "dataset.quality.checks",
    "type_validity": "'low' (1, dataset.source.null_values)",
    "range_validity": "'low' (1, dataset.bounds.low)",
    "category_validity": "'kind' (1, dataset.quality.categories.kind)",
    "date_validity": "dataset.time.format",
    "future_dates": "dataset.time.future",
    "outlier_share": "dataset.bounds.high",
    "target_validity": "dataset.targets",
}


@pytest.mark.parametrize("metric", list(METRICS))
def test_each_recommendation_names_the_figure_and_the_key(tmp_path, metric):
    plant, _ = FAULTS[metric]
    limit = 1.0 if METRICS[metric].at_least else 0.0
    config = run_config(tmp_path, f"quality.warn_limits.{metric}={limit}")
    found = report(config, write_csv(tmp_path / "shops.csv", plant(clean_rows())))
    text = found.advice[metric]
    assert KEYS[metric] in text
    assert any(character.isdigit() for character in text)
    row = next(r for r in found.rows("run", {}).to_pylist() if r["measure"] == metric and not r["column"])
    assert (row["status"], row["recommendation"], row["limit"]) == ("warn", text, limit)


def test_a_row_of_another_width_counts_as_cells_that_cannot_be_read_and_as_nothing_else(tmp_path):
    rows = [*clean_rows(), {"raw": ["2019-10-01", "s0"]}]
    found = report(run_config(tmp_path), write_csv(tmp_path / "shops.csv", rows))
    assert values(found) == PERFECT | {"type_validity": pytest.approx(1 - 7 / (6 * N + 7))}
    assert "rows that cannot be cut into cells: 1 (dataset.source.delimiter)" in found.advice["type_validity"]


def test_what_the_dataset_allows_is_measured_and_not_judged(tmp_path):
    config = run_config(
        tmp_path, duplicates="allow", time={"column": "day", "future": "keep"}, quality={"frequency": "1d"}
    )
    rows = [*clean_rows(), clean_rows()[-1] | {"day": "2031-01-01"}, clean_rows()[-1]]
    found = report(config, write_csv(tmp_path / "shops.csv", rows))
    verdicts = {v.measure.metric: v for v in found.assessment.verdicts}
    for name in ("duplicate_keys", "future_dates"):
        assert verdicts[name].measure.value > 0
        assert (verdicts[name].status, verdicts[name].weight, verdicts[name].points) == ("info", 0.0, 0.0)
    assert verdicts["category_validity"].measure.value is None
    assert verdicts["category_validity"].measure.detail == "dataset.quality.categories has none"


def test_reasons_are_counted_whole_though_they_hold_the_separator(tmp_path):
    rows = [*clean_rows(), clean_rows()[-1], clean_rows()[-1] | {"sales": "x", "low": "y"}]
    found = report(run_config(tmp_path), write_csv(tmp_path / "shops.csv", rows))
    assert found.reasons == {
        "another row has the same entity and time: keep_last (dataset.duplicates)": 1,
        "column 'low': not a number (dataset.columns)": 1,
        "column 'sales': not a number (dataset.targets)": 1,
    }


def test_switched_off_it_counts_reasons_and_judges_nothing(tmp_path):
    config = run_config(tmp_path, "quality.enabled=false")
    rows = [*clean_rows(), clean_rows()[-1] | {"day": "?"}]
    found = report(config, write_csv(tmp_path / "shops.csv", rows))
    assert list(found.reasons.values()) == [1]
    assert found.assessment.scores == {}
    assert found.summary == found.refusals == found.patterns() == []
