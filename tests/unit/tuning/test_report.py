"""Consumes studies of a known loss, checks what the report says of parameters, and that the page is whole."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

import numpy as np
import pytest

from assay.tuning.journal import FAILED, PRUNED, Record, Trial, best_of, opened
from assay.tuning.report import StudyView, curves, draw, others, page, table
from assay.tuning.surrogate import fitted


@pytest.fixture
def view(space, made):
    """view(loss of a point, trials) -> a study of random points."""

    def make(loss, count=120, **more):
        random = np.random.default_rng(4)
        trials = [made(n, point, loss(point)) for n, point in enumerate(space.draw(random) for _ in range(count))]
        told = {"engine": "xgboost", "sampler": "tpe", "pruner": "median", "judge": "j"}
        return StudyView("0123456789abcdef", "price", told, space, trials, best_of(trials), trials[0], (), **more)

    return make


def test_importance_goes_to_the_parameter_that_moves_the_loss(view):
    shown = view(lambda p: 5 + p["x"] + 0.1 * (p["c"] == "b"))
    alone, pairs = fitted(shown.space, shown.trials).shares()
    assert max(alone, key=alone.get) == "x"
    assert alone["x"] > 0.8
    assert max(pairs.values()) < 0.1


def test_interaction_goes_to_the_pair_that_only_together_moves_it(view):
    shown = view(lambda p: 5.0 + (1 if p["x"] > 0 else -1) * (1 if p["k"] > 5 else -1), 300)
    alone, pairs = fitted(shown.space, shown.trials).shares()
    assert max(pairs, key=pairs.get) == ("x", "k")
    assert pairs["x", "k"] > 0.5
    assert max(alone.values()) < 0.2


def test_few_trials_or_equal_ones_have_no_surrogate(view):
    assert fitted(view(lambda p: p["x"], 5).space, view(lambda p: p["x"], 5).trials) is None
    assert fitted(view(lambda _: 1.0).space, view(lambda _: 1.0).trials) is None


@pytest.mark.parametrize("count", [1, 4, 40])
def test_the_page_is_well_formed_and_asks_for_nothing(view, count):
    shown = view(lambda p: 5 + p["x"] ** 2, count)
    failed = Trial(count, {}, shown.trials[0].point, FAILED, None, 0, (), 1.0, 99.0, reason="<no> & never")
    pruned = Trial(count + 1, {}, shown.trials[0].point, PRUNED, 9.0, 5, ((5, 9.0),), 1.0, 100.0)
    record = Record(shown.told, tuple(shown.trials))
    object.__setattr__(shown, "trials", [*shown.trials, failed, pruned])
    object.__setattr__(shown, "others", [("earlier <study>", record)])
    drawn, facts = draw(shown)
    html = page(shown, drawn)
    tree = ElementTree.fromstring(html.replace("<!DOCTYPE html>", "").strip())
    assert len(tree.findall(".//figure")) == len(drawn)
    assert "http" not in html.replace("http://www.w3.org", "").replace("http-equiv", "")
    assert {"history", "slices", "comparison"} <= set(drawn)
    assert ("importance" in facts) == (count == 40) == ("contour" in drawn)


def test_the_table_has_every_trial(view):
    shown = view(lambda p: 5 + p["x"], 10)
    rows = list(csv.DictReader(io.StringIO(table(shown))))
    assert [float(r["loss"]) for r in rows] == [t.loss for t in shown.trials]
    assert [float(r["x"]) for r in rows] == [t.point["x"] for t in shown.trials]


def test_curves_fall_to_the_best(view):
    found = curves(view(lambda p: 5 + p["x"], 30).trials)
    assert found["best_so_far"] == list(np.minimum.accumulate(found["trial_loss"]))


def test_only_studies_with_the_same_judge_are_compared(tmp_path, made):
    for name, judge in (("a", "j"), ("b", "j"), ("c", "other")):
        with opened(tmp_path / f"{name}.jsonl", {"judge": judge, "engine": "xgboost", "sampler": name}) as journal:
            journal.add(made(0, {"x": 1.0}, 2.0))
    (tmp_path / "strange.jsonl").write_text("{}\n")
    found = others(tmp_path, "j", tmp_path / "a.jsonl")
    assert [record.told["sampler"] for _, record in found] == ["b"]
