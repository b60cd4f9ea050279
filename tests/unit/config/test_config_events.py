"""Consumes datasets of events, checks what their columns may be used for and that mistakes are told with their keys."""

from __future__ import annotations

import copy

import pytest

from assay.config import conf_root, load_dataset
from assay.errors import ConfigError

EVENTS = {
    "period": "1w",
    "numeric": ["pieces", "price"],
    "categorical": ["bill"],
    "values": {"spend": {"sum": "pieces * price"}, "buys": {"any": "pieces > 0", "periods": 3}},
    "known": {"recency": {"days_since_last": "pieces > 0"}, "shop": {"last": "bill"}},
    "rules": {"step": "CASE WHEN buys = 1 AND spend > spend_before THEN 'more' ELSE 'other' END"},
}
DATASET = {
    "name": "shop",
    "source": {"path": "shop.csv"},
    "time": {"column": "at"},
    "entity": ["who"],
    "targets": [
        {"name": "buys", "task": "binary"},
        {"name": "next", "column": "step", "task": "multiclass", "classes": ["more", "other"]},
    ],
    "events": EVENTS,
    "columns": {"outcomes": ["spend"], "numeric": ["recency"], "categorical": ["shop"]},
    "bounds": {"price": [0, 1000]},
    "quality": {"checks": ["price <= pieces"]},
    "ingest": {"max_quarantine_share": 0.4},
}


def changed(*path, to):
    tree = copy.deepcopy(DATASET)
    here = tree
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = to
    return tree


def test_rows_of_the_source_are_events_and_only_what_makes_them_is_part_of_them(load):
    config = load(DATASET)
    events = config.dataset.ingested
    assert events.is_of_events
    assert events.source_columns == ("at", "who", "bill", "pieces", "price")
    assert config.dataset.text_columns == ("who", "shop")
    assert config.dataset.numeric_columns == ("recency", "spend", "buys", "next")
    assert config.profile.ingest.max_quarantine_share == 0.4
    other = load(changed("events", "values", "spend", to={"sum": "price"}))
    assert other.dataset.ingested == events
    assert load(changed("bounds", to={})).dataset.ingested != events


def test_what_looks_over_several_periods_is_known_when_they_are_over(load):
    found = load(changed("availability_delay_days", to={"spend": 2})).dataset
    assert found.delay_days("spend") == 2  # besides its own period, which is over when the next row starts
    assert found.delay_days("buys") == 14.5
    assert found.delay_days("next") == 14.5  # a rule of `buys`


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        (changed("targets", to=[]), r"targets: name one at least"),
        ({**changed("time", to={}), "columns": {}}, r"events need a time: set time\.column"),
        (changed("time", "align", to={"frequency": "1d"}), r"time\.align has no use with events"),
        (changed("events", "period", to="1h"), r"events\.period"),
        (
            changed("events", "known", "spend", to={"last": "bill"}),
            r"events\.known\.spend: events\.values has this name",
        ),
        (changed("events", "values", "spend", to={}), r"events\.values\.spend: expected one of sum, .*found none"),
        (
            changed("events", "values", "spend", to={"sum": "price", "max": "price"}),
            r"events\.values\.spend: .*found sum and max",
        ),
        (
            changed("events", "values", "spend", to={"sum": "piecez * price"}),
            r"events\.values\.spend\.sum: 'piecez \* price' names no column 'piecez'; did you mean pieces\?",
        ),
        (
            changed("events", "values", "spend", to={"sum": "price *"}),
            r"events\.values\.spend\.sum: .*no SQL expression",
        ),
        (changed("events", "values", "spend", to={"sum": "bill"}), r"'bill' is a text, expected a number"),
        (
            changed("events", "known", "recency", to={"days_since_last": "pieces"}),
            r"events\.known\.recency\.days_since_last: 'pieces' is a number, expected true or false",
        ),
        (changed("events", "rules", "step", to="CASE WHEN bill = 'a' THEN 1 END"), r"rules\.step: .*no column 'bill'"),
        (
            changed("columns", "numeric", to=["spend"]),
            r"columns\.numeric: 'spend' is known only when its period is over: use it in outcomes",
        ),
        (changed("segments", to=["spend"]), r"segments: 'spend' is known only when its period is over"),
        (changed("columns", "outcomes", to=["recency"]), r"columns\.outcomes: 'recency' is known beforehand"),
        (changed("columns", "outcomes", to=["spent"]), r"columns\.outcomes: the events make no 'spent' .*mean spend\?"),
        (changed("targets", to=[{"name": "spend_x"}]), r"targets: the events make no 'spend_x'"),
        (
            {**changed("targets", to=[{"name": "spend", "transform": "log"}]), "columns": {}},
            r"target 'spend': transform log needs values above 0",
        ),
        (changed("bounds", to={"spend": [0, 1]}), r"bounds\.spend names no numeric column"),
        (changed("quality", to={"checks": ["spend <= price"]}), r"'spend' is no column of the dataset"),
    ],
)
def test_a_mistake_is_told_with_its_key(load, tree, told):
    with pytest.raises(ConfigError, match=told):
        load(tree)


def test_the_data_set_that_ships():
    found = load_dataset(conf_root() / "datasets" / "online_retail.yml")
    assert found.ingested.is_of_events
    assert [target.name for target in found.targets] == ["bought", "step"]
