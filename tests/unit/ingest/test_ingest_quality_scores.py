"""Consumes measured sources, checks scores against their formula, limits, weights, and the rows of the report."""

from __future__ import annotations

import pytest
from quality_harness import NOW, clean_rows, report, run_config, write_csv

from assay.config.quality import METRICS, SCORES
from assay.errors import ConfigError
from assay.ingest.quality import measured_day
from assay.runtime.tables import QUALITY_REPORTS


def faulty_rows():
    """A tenth of the cells of a column empty, a tenth of the rows repeated, some categories wrong."""
    rows = [row | ({"low": ""} if i % 10 == 0 else {}) for i, row in enumerate(clean_rows())]
    rows = [row | ({"kind": "c"} if i % 20 == 3 else {}) for i, row in enumerate(rows)]
    return [*rows, *rows[:24]]


@pytest.fixture
def faulty(tmp_path):
    part = write_csv(tmp_path / "shops.csv", faulty_rows())

    def make(*overrides, **changes):
        return report(run_config(tmp_path, *overrides, **changes), part)

    return make


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"completeness": 0.5, "ordering": 0},
        {"duplicate_rows": 100, "type_validity": 0, "category_validity": 7},
    ],
)
def test_a_score_is_100_times_the_weighted_mean_of_what_is_in_order(faulty, weights):
    found = faulty(*(f"quality.metric_weights.{k}={v}" for k, v in weights.items()))
    for score in SCORES:
        good = total = 0.0
        for verdict in found.assessment.verdicts:
            metric, value = METRICS[verdict.measure.metric], verdict.measure.value
            if metric.score == score and value is not None:
                weight = weights.get(metric.name, metric.weight)
                good += weight * (value if metric.at_least else 1 - value)
                total += weight
        assert found.assessment.scores[score] == pytest.approx(100 * good / total)
        lost = sum(v.points for v in found.assessment.verdicts if METRICS[v.measure.metric].score == score)
        assert lost == pytest.approx(100 - found.assessment.scores[score])
    parts = [found.assessment.scores[score] for score in SCORES]
    assert found.assessment.scores["overall"] == pytest.approx(sum(parts) / 3)


def test_scores_are_weighted_too(faulty):
    found = faulty("quality.score_weights={completeness: 0, consistency: 3, validity: 1}").assessment.scores
    assert found["overall"] == pytest.approx((3 * found["consistency"] + found["validity"]) / 4)


def test_a_limit_that_is_missed_refuses_and_names_all_there_is_to_know(faulty):
    found = faulty("ingest.quality_limits.duplicate_rows=0.05", "ingest.quality_limits.category_validity=0.9")
    (reason,) = found.refusals
    assert reason.startswith(
        "duplicate_rows is 0.09091 (24 of 264), above ingest.quality_limits.duplicate_rows=0.05; observations were "
        "left as they were. 24 rows (9.1 %) the same as another in every column"
    )
    assert {v.measure.metric for v in found.assessment.verdicts if v.status == "fail"} == {"duplicate_rows"}
    assert next(iter(found.advice)) == "duplicate_rows"  # what was refused comes first


def test_a_value_on_its_limit_passes(faulty):
    share = 24 / 264
    assert faulty(f"ingest.quality_limits.duplicate_rows={share}").refusals == []
    assert len(faulty(f"ingest.quality_limits.duplicate_rows={share - 1e-9}").refusals) == 1


def test_a_score_below_its_least_refuses_with_its_parts(faulty):
    scores = faulty().assessment.scores
    (reason,) = faulty("ingest.min_quality_score=99.9").refusals
    assert reason.startswith(f"the quality score is {scores['overall']:.1f} (completeness {scores['completeness']:.1f}")
    assert "below ingest.min_quality_score=99.9; observations were left as they were" in reason
    assert faulty("ingest.min_quality_score=1").refusals == []


def test_rows_of_the_report_have_all_measures_once_and_explain_the_scores(faulty):
    found = faulty()
    table = found.rows("abc", {"rows_in": 264, "rows_kept": 1, "rows_quarantined": 263})
    assert table.schema == QUALITY_REPORTS.schema()
    rows = table.to_pylist()
    assert {row["run"] for row in rows} == {"abc"}
    keys = [tuple(row[name] for name in QUALITY_REPORTS.key) for row in rows]
    assert len(set(keys)) == len(keys)
    whole = {row["measure"]: row for row in rows if not row["column"]}
    assert set(METRICS) <= set(whole)
    for score in SCORES:
        lost = sum(whole[name]["points_lost"] for name, metric in METRICS.items() if metric.score == score)
        assert whole[f"score_{score}"]["value"] == pytest.approx(100 - lost)
    assert whole["rows_kept"]["value"] == 1
    assert whole["another row has the same entity and time: keep_last (dataset.duplicates)"]["value"] == 24
    columns = {(row["column"], row["measure"]): row for row in rows if row["column"]}
    assert columns[("low", "completeness")]["value"] == pytest.approx(237 / 264)
    assert columns[("low", "completeness")]["status"] == "warn"
    assert columns[("low <= high", "cross_column")]["value"] == 1
    assert columns[("kind", "category_validity")]["value"] == pytest.approx(250 / 264)
    assert str(whole["completeness"]["data_until"]) == "2019-11-29 00:00:00+00:00"


def test_the_summary_has_the_scores_and_the_three_most_pressing_things(faulty):
    found = faulty("quality.warn_limits.completeness=1")
    assert found.summary[0].startswith("quality 9")
    assert found.summary[1:] == [f"  {text}" for text in list(found.advice.values())[:3]]
    assert len(found.advice) == 4


@pytest.mark.parametrize(
    ("overrides", "changes", "message"),
    [
        (["ingest.quality_limits.duplicates=1"], {}, "unknown key ingest.quality_limits.duplicates; did you mean dup"),
        (["quality.warn_limits.xyz=1"], {}, "unknown key quality.warn_limits.xyz (valid here: category_validity, "),
        (["quality.metric_weights.order=1"], {}, "unknown key quality.metric_weights.order; did you mean ordering?"),
        (["quality.score_weights.overall=1"], {}, "unknown key quality.score_weights.overall"),
        (["quality.score_weights={completeness: 0, consistency: 0, validity: 0}"], {}, "quality.score_weights are all"),
        (["ingest.quality_limits.ordering=7"], {}, "ingest.quality_limits.ordering: input should be less than"),
        ([], {"quality": {"check": []}}, "unknown key quality.check; did you mean checks?"),
        ([], {"quality": {"categories": {"low": ["1"]}}}, "quality.categories.low names no text column"),
        ([], {"quality": {"checks": ["low <= hihg"]}}, "quality.checks[0]: 'low <= hihg': 'hihg' is no column of the"),
        ([], {"quality": {"checks": ["low <= hihg"]}}, "did you mean high?"),
        ([], {"quality": {"checks": ["low high"]}}, "expected two columns and one of <= >= == != < >"),
        ([], {"quality": {"checks": ["low <= kind"]}}, "'low <= kind' compares a number with a text"),
        ([], {"quality": {"checks": ["__import__('os') < low"]}}, "is no column of the dataset"),
        ([], {"quality": {"frequency": "daily"}}, "quality.frequency: "),
    ],
)
def test_contradictions_are_named(tmp_path, overrides, changes, message):
    with pytest.raises(ConfigError) as caught:
        run_config(tmp_path, *overrides, **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "share"),
    [("low <= high", 1.0), ("low<high", 1.0), ("high < low", 0.0), ("low != high", 1.0), ("kind == town", 0.0)],
)
def test_checks_compare_numbers_and_texts(tmp_path, text, share):
    part = write_csv(tmp_path / "shops.csv", clean_rows())
    found = report(run_config(tmp_path, "ingest.quality_limits.cross_column=0", quality={"checks": [text]}), part)
    assert found.measured.overall("cross_column").value == share


def test_names_with_operators_and_blanks_are_columns_too():
    from assay.config.quality import parse_check

    check = parse_check("a < b <= c > d", {"a < b", "c > d"})
    assert (check.left, check.operator, check.right) == ("a < b", "<=", "c > d")


def test_a_report_holds_for_a_day_only_where_age_is_judged_by_it(tmp_path):
    assert measured_day(run_config(tmp_path), NOW) is None
    aged = run_config(tmp_path, quality={"max_age_days": 3})
    assert measured_day(aged, NOW) == "2020-01-01"
    dated = run_config(tmp_path, date="2019-12-05", quality={"max_age_days": 3})
    assert measured_day(dated, NOW) == "2019-12-05"
    part = write_csv(tmp_path / "shops.csv", clean_rows())
    assert report(aged, part).measured.overall("staleness").value == 1
    assert (
        report(run_config(tmp_path, date="2019-12-01", quality={"max_age_days": 3}), part)
        .measured.overall("staleness")
        .value
        == 0
    )
