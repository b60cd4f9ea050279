"""Consumes invented rows of classes, checks their calibration: map, sets by class, plain data, parts of rows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from assay.class_metrics import class_metrics
from assay.config.conformal import ConformalConfig
from assay.conformal.calibration import Calibration, SegmentQuantiles
from assay.conformal.class_calibration import ClassCalibration, fit_classes, read_calibration
from assay.conformal.class_probabilities import FITS
from assay.conformal.class_rows import CLASS_ROWS, ClassRows
from assay.conformal.class_stage import ClassStage, figures_of
from assay.conformal.quantiles import conformal_quantiles
from assay.errors import DataError

LEVELS = (0.8, 0.9)


def rows_of(rows=3_000, classes=3, seed=0, times=40):
    """Rows of classes of which the last is rare and never the likeliest; two segments of different noise."""
    random = np.random.default_rng(seed)
    each = random.dirichlet(np.linspace(4, 0.4, classes), rows)
    said = each**2 / (each**2).sum(axis=1, keepdims=True)
    return ClassRows(
        codes=np.array([random.choice(classes, p=p) for p in each]),
        probabilities=said,
        labels=np.where(random.random(rows) < 0.7, "half=north", "half=south").astype(object),
        row_ids=random.integers(-(2**63), 2**63 - 1, rows),
        times=np.sort(random.integers(0, times, rows)),
    )


def table_of(rows):
    return pa.table(
        {
            "label": pa.array(rows.labels.tolist()),
            "row_id": rows.row_ids,
            "time": rows.times,
            "code": rows.codes.astype(float),
            "probabilities": pa.array(rows.probabilities.tolist()),
        },
        schema=CLASS_ROWS,
    )


def fitted(rows, score="lac", by_class=False, probability_map=None):
    return fit_classes(
        rows.codes,
        rows.probabilities,
        rows.labels,
        rows.draws,
        LEVELS,
        score=score,
        by_class=by_class,
        probability_map=probability_map,
        min_segment_rows=20,
        segment_columns=("half",),
    )


def held_by_class(calibration, rows, level):
    sets = list(calibration.sets(calibration.calibrated(rows.probabilities), rows.labels, rows.draws))[level]
    own = sets[np.arange(len(rows.codes)), rows.codes]
    return [own[rows.codes == k].mean() for k in range(rows.probabilities.shape[1])]


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_sets_by_class_cover_the_rare_class_which_others_miss(score):
    rows, later = rows_of(6_000), rows_of(20_000, seed=1)
    whole = held_by_class(fitted(rows, score), later, 0)
    assert whole[-1] < 0.65 < 0.8 < whole[0]
    for level, promise in enumerate(LEVELS):
        np.testing.assert_allclose(held_by_class(fitted(rows, score, by_class=True), later, level), promise, atol=0.06)


def test_each_class_has_the_quantiles_of_its_own_rows_by_segment():
    rows = rows_of()
    calibration = fitted(rows, by_class=True)
    found = calibration.class_quantiles(np.array(["half=south", "half=nowhere"], dtype=object), 3)
    scores = calibration.set_score.score(rows.codes, rows.probabilities)
    for k in range(3):
        for place, own in ((0, (rows.codes == k) & (rows.labels == "half=south")), (1, rows.codes == k)):
            np.testing.assert_array_equal(found[place, k], conformal_quantiles(scores[own], LEVELS))


def test_a_class_that_never_came_is_in_every_set():
    rows = rows_of()
    rows = rows.where(rows.codes != 1)
    calibration = fitted(rows, by_class=True)
    for sets in calibration.sets(rows.probabilities, rows.labels, rows.draws):
        assert sets[:, 1].all()
        assert not sets[:, 0].all()


@pytest.mark.parametrize("method", [None, *sorted(FITS)])
@pytest.mark.parametrize("by_class", [False, True])
def test_a_calibration_is_plain_data_that_comes_back_as_it_was(method, by_class):
    rows = rows_of(300)
    probability_map = FITS[method](rows.codes, rows.probabilities) if method else None
    calibration = fitted(rows, "aps", by_class, probability_map)
    again = read_calibration(json.loads(json.dumps(calibration.to_dict(), allow_nan=False)), classes=True)
    assert again == calibration
    assert again.version == calibration.version
    if method is None and not by_class:
        plain = Calibration.from_dict(calibration.to_dict())
        assert plain.version == calibration.version
        assert set(calibration.to_dict()) == {"levels", "segment_columns", "score", "min_segment_rows", "quantiles"}
    else:
        with pytest.raises(ValueError, match="classes"):
            read_calibration(calibration.to_dict(), classes=False)


def test_every_part_of_a_calibration_changes_its_version():
    rows = rows_of(300)
    maps = [None, *(FITS[method](rows.codes, rows.probabilities) for method in sorted(FITS))]
    found = {fitted(rows, s, b, m).version for s in ("lac", "aps") for b in (False, True) for m in maps}
    assert len(found) == 16


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"classes": {"colour": 1}}, "classes: expected some of the fields"),
        ({"classes": {"probabilities": {"method": "x"}}}, "unknown method"),
        ({"classes": {"by_class": [{}]}}, "expected the fields"),
    ],
)
def test_what_is_no_calibration_of_classes_is_refused(change, why):
    with pytest.raises(ValueError, match=why):
        ClassCalibration.from_dict({**fitted(rows_of(50)).to_dict(), **change})


def test_calibrations_by_class_have_the_levels_of_the_whole():
    one = Calibration((0.5,), ("half",), "lac", 20, {"": SegmentQuantiles(3, (0.5,))})
    whole = fitted(rows_of(50)).to_dict()
    with pytest.raises(ValueError, match="levels and the score"):
        ClassCalibration.from_dict({**whole, "classes": {"by_class": [one.to_dict()] * 3}})
    with pytest.raises(ValueError, match="do not fit 2 classes"):
        fitted(rows_of(50), by_class=True).class_quantiles(np.array(["half=north"], dtype=object), 2)


def test_quantiles_of_classes_are_named_like_segments():
    lines = fitted(rows_of(), by_class=True).lines_by_class(["bad", "fine", "a|b"], "mood")
    found = {label: quantiles for label, _, quantiles in lines}
    assert all(label == used for label, used, _ in lines)
    assert fitted(rows_of()).lines_by_class(["bad", "fine", "a|b"], "mood") == []
    assert set(found) == {
        f"{own}{rest}".lstrip("|")
        for own in ("mood=bad", "mood=fine", "mood=a\\|b")
        for rest in ("", "|half=north", "|half=south")
    }
    assert sum(found[f"mood={name}"].rows for name in ("bad", "fine", "a\\|b")) == 3_000


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_map_learns_from_earlier_rows_than_the_sets(share):
    rows = rows_of()
    taught, rest = rows.parted(share, drawn=False)
    assert taught.times.max() < rest.times.min()
    assert len(taught.codes) + len(rest.codes) == 3_000
    assert len(taught.codes) == pytest.approx(share * 3_000, rel=0.1)


@pytest.mark.parametrize(("times", "drawn"), [(1, False), (40, True)])
def test_rows_that_no_time_tells_apart_are_drawn_by_a_hash(times, drawn):
    rows = rows_of(times=times)
    taught, rest = rows.parted(0.3, drawn=drawn)
    assert len(taught.codes) == pytest.approx(900, rel=0.1)
    mixed = np.random.default_rng(0).permutation(3_000)
    again, _ = ClassRows(**{name: values[mixed] for name, values in vars(rows).items()}).parted(0.3, drawn=drawn)
    assert set(again.row_ids) == set(taught.row_ids)
    # the draws of sets know nothing of that one
    assert taught.draws.mean() == pytest.approx(0.5, abs=0.05)
    assert rest.draws.mean() == pytest.approx(0.5, abs=0.05)


def test_too_few_rows_for_both_are_refused_with_the_setting_to_change():
    with pytest.raises(DataError, match=r"^1 labelled row.*conformal\.probabilities to none"):
        rows_of(1).parted(0.5, drawn=False)


@pytest.mark.parametrize("method", ["none", *sorted(FITS)])
def test_the_stage_fits_the_map_on_one_part_and_the_sets_on_the_other(method):
    rows, later = rows_of(8_000), rows_of(8_000, seed=1)
    stage = ClassStage(ConformalConfig(probabilities=method, set_score="aps"), ("half",), 3, drawn=False)
    calibration = stage.fitted(table_of(rows))
    if method == "none":
        assert calibration.probabilities is None
        assert calibration.quantiles[""].rows == 8_000
    else:
        taught, rest = rows.parted(0.5, drawn=False)
        order = np.argsort(taught.row_ids)  # whatever the order of rows, to the last bit
        assert calibration.probabilities == FITS[method](taught.codes[order], taught.probabilities[order])
        mixed = table_of(rows).take(np.random.default_rng(0).permutation(8_000))
        assert stage.fitted(mixed).to_dict() == calibration.to_dict()
        assert calibration.quantiles == fitted(rest, "aps", probability_map=calibration.probabilities).quantiles
    assert stage.coverage(calibration, table_of(later)) == pytest.approx(LEVELS, abs=0.02)
    record = stage.record(calibration, table_of(later))
    for name, each in (("before", later.probabilities), ("after", calibration.calibrated(later.probabilities))):
        expected = class_metrics(later.codes, each)
        assert record[name]["log_loss"] == pytest.approx(expected["log_loss"])
        assert record[name]["calibration_error"] == pytest.approx(expected["calibration_error"])
        assert sum(bin_rows for *_, bin_rows in record[name]["bins"]) == 8_000
    assert bool(figures_of(record)) == (method != "none")
    if method != "none":
        assert record["after"]["calibration_error"] < 0.6 * record["before"]["calibration_error"]
        assert figures_of(record)["test_brier_calibrated"] == record["after"]["brier"]
