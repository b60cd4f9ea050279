"""Checks that, while a challenger serves a share of the entities, each row has the answer of the model that serves it.

The models are small, and real; features are made of raw rows by the kernels of batch.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json

import pytest
from features.feature_harness import observations, plan_of, settings_of

from assay.config import DatasetConfig
from assay.config.profile import ScoringConfig
from assay.config.strict import check
from assay.errors import AssayError
from assay.model.arms import place
from assay.model.bundle import MANIFEST
from assay.model.registry import Calibrated
from assay.scoring.deployed import Arms
from assay.scoring.kernel import ScoreRows
from assay.scoring.scorer import NOT_FOLLOWED, Scorer
from assay.serving import packed
from assay.serving.pricer import Pricer
from assay.serving.request import Limits, Reader
from assay.serving.scores import Scores, Split
from assay.serving.state import State
from small_models import DATASET, calibrate_model, train_model

START = dt.datetime(2024, 3, 1, tzinfo=dt.timezone.utc)
DAY = dt.timedelta(days=1)
DEPLOYMENT, STEPS = "price-1-to-2", ((START + 2 * DAY, 0.3), (START + 5 * DAY, 0.6))
CITIES = [f"city {number}" for number in range(20)] + ["Austin", "Dallas"]
ROWS = [
    {"day": f"{START + day * DAY:%Y-%m-%d}", "city": city, "size": 0.1 * day + 0.01 * place}
    for day in range(8)
    for place, city in enumerate(CITIES)
]
PLAN = plan_of(
    entity=("city",),
    texts=("city",),
    categorical=("city",),
    history=plan_of().history[:1],
    groups={},
    market=False,
    settings=settings_of(lags=(1,)),
)


def served(row):
    """Whether the challenger serves a row, by the definition of arms."""
    time = dt.datetime.fromisoformat(row["day"]).replace(tzinfo=dt.timezone.utc)
    share = max((share for start, share in STEPS if start <= time), default=0.0)
    return place(f"city={row['city']}", DEPLOYMENT) < share


def calibrated(model):
    found = calibrate_model(model)
    return Calibrated(model, found.to_dict(), found.version)


def scores_of(found, target="price", **changes):
    scorer = dataclasses.replace(Scorer.of(found, ScoringConfig()), **changes)
    return Scores.made(ScoreRows(scorer, target, ("city",)), classes=False)


@pytest.fixture(scope="module")
def one():
    return calibrated(train_model())


@pytest.fixture(scope="module")
def other():
    return calibrated(train_model(rounds=2))


@pytest.fixture(scope="module")
def champion(one):
    return scores_of(one)


@pytest.fixture(scope="module")
def challenger(other):
    return scores_of(other, still=True)


@pytest.fixture(scope="module")
def both(champion, challenger):
    arms = Arms(DEPLOYMENT, STEPS, ("city",), "1", "2")
    return dataclasses.replace(champion, split=Split(arms, challenger))


@pytest.fixture(scope="module")
def priced_by():
    """priced_by(price=scores, ...) -> a pricer that knows one price of each city."""
    columns = {"numeric": ["size"], "categorical": ["city"]}
    dataset = check(DatasetConfig, {**DATASET, "columns": columns}, origin="test")
    known = [
        {"row_id": number, "time": START - 9 * DAY, "city": city, "size": 1.0, "price": 100.0 + number}
        for number, city in enumerate(CITIES)
    ]
    frame = observations(known, PLAN)
    state = State.of(PLAN, lambda columns: frame.select(columns).to_arrow().to_batches())

    def pricer(**scores):
        return Pricer(Reader(dataset, ("price",), Limits()), state, scores, {}, example=ROWS[0])

    return pricer


@pytest.fixture(scope="module")
def expected(priced_by, champion, challenger):
    """The answers of the model that serves each row, from that model alone."""
    own, its = (priced_by(price=scores).price(ROWS, []).answers for scores in (champion, challenger))
    assert all(a["prediction"] != b["prediction"] for a, b in zip(own, its, strict=True))
    return [b if served(row) else a for row, a, b in zip(ROWS, own, its, strict=True)]


def test_each_row_has_the_answer_of_the_model_that_serves_it_in_the_order_of_the_request(
    priced_by, both, expected, one, other
):
    found = priced_by(price=both).price(ROWS, []).answers
    assert found == expected
    assert [answer["row"] for answer in found] == [*range(len(ROWS))]
    assert {answer["model_version"] for answer in found} == {one.model.version, other.model.version}
    assert {answer["calibration_version"] for answer in found} == {one.calibration_version, other.calibration_version}
    assert [NOT_FOLLOWED in (answer["quality_reasons"] or ()) for answer in found] == [served(row) for row in ROWS]
    assert not any(served(row) for row in ROWS[: 2 * len(CITIES)])


def test_a_row_has_its_answer_whatever_its_company_and_whoever_asks_beside_it(priced_by, both, expected):
    pricer = priced_by(price=both)
    for number in range(0, len(ROWS), 13):
        (alone,) = pricer.price([ROWS[number]], []).answers
        assert alone == {**expected[number], "row": 0}
    shuffled = [*range(len(ROWS) - 1, -1, -3)]
    requests = [pricer.reader.raw([ROWS[n] for n in chosen], []) for chosen in (shuffled[:20], shuffled[20:], [3])]
    together = pricer.price_together(requests)
    for chosen, found in zip((shuffled[:20], shuffled[20:], [3]), together, strict=True):
        assert found.answers == [{**expected[n], "row": row} for row, n in enumerate(chosen)]


def test_targets_that_are_split_and_targets_that_are_not_answer_each_row_in_turn(priced_by, both, one, expected):
    rent = scores_of(one, "rent")
    found = priced_by(price=both, rent=rent).price([*ROWS[-30:], {**ROWS[0], "day": "soon"}], [])
    assert [(answer["row"], answer.get("target")) for answer in found.answers] == [
        *((row, target) for row in range(30) for target in ("price", "rent")),
        (30, None),
    ]
    assert [answer["prediction"] for answer in found.answers[:-1:2]] == [one["prediction"] for one in expected[-30:]]
    assert {answer["model_version"] for answer in found.answers[1:-1:2]} == {one.model.version}


def test_a_model_without_rows_is_not_asked_and_without_a_split_nobody_looks_for_arms(
    priced_by, champion, both, expected, monkeypatch
):
    asked = []
    scored = ScoreRows.scored
    monkeypatch.setattr(
        ScoreRows, "scored", lambda self, rows, schema: asked.append(self) or scored(self, rows, schema)
    )
    early, late = ROWS[:5], [row for row in ROWS if served(row)][:5]
    pricer = priced_by(price=both)
    for rows, model in ((early, champion.model), (late, both.split.challenger.model)):
        pricer.price(rows, [])
        assert asked == [model]
        asked.clear()
    monkeypatch.setattr(Arms, "of_challenger", None)
    assert priced_by(price=champion).price(early, []).answers == expected[:5]
    assert asked == [champion.model]


def test_a_saved_pricer_splits_in_the_same_way_and_its_challenger_is_verified(priced_by, both, expected, tmp_path):
    pricer = dataclasses.replace(priced_by(price=both), about={"targets": {}})
    digest = packed.save(pricer, tmp_path / "saved")
    again = packed.load(tmp_path / "saved", sha256=digest)
    assert again.price(ROWS, []).answers == expected
    assert again.scores["price"].split.arms == both.split.arms
    told = json.loads((tmp_path / "saved" / "pricer.json").read_text(encoding="utf-8"))
    assert told["targets"]["price"]["split"]["arms"]["steps"][0] == ["2024-03-03T00:00:00+00:00", 0.3]
    path = tmp_path / "saved" / "targets" / "0" / "challenger" / "served" / "booster.ubj"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(AssayError, match=r"targets/0/challenger/served/booster.ubj.* refusing to load it"):
        packed.load(tmp_path / "saved", sha256=digest)


@pytest.mark.parametrize("broken", ["champion", "challenger"])
def test_both_models_are_tried_before_a_server_is_ready(priced_by, both, broken, monkeypatch):
    """The row that is tried is the champion's, and would never tell of its challenger."""
    priced_by(price=both).check()
    monkeypatch.setattr("assay.model.carried._LOADED", {})
    scores = both if broken == "champion" else both.split.challenger
    carried = scores.model.scorer.carried
    changed = {name: content if name == MANIFEST else content + b" " for name, content in carried.files.items()}
    carried = dataclasses.replace(carried, files=changed)
    scorer = dataclasses.replace(scores.model.scorer, carried=carried)
    wrong = dataclasses.replace(scores, model=dataclasses.replace(scores.model, scorer=scorer))
    if broken == "challenger":
        wrong = dataclasses.replace(both, split=dataclasses.replace(both.split, challenger=wrong))
    with pytest.raises(AssayError, match="refusing to load it"):
        priced_by(price=wrong).check()
