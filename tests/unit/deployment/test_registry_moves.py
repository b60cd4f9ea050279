"""Consumes registered versions, checks who is promoted or retired, who is refused and why, and what repeating does."""

from __future__ import annotations

import datetime as dt

import pytest

from assay.deployment import registry_moves
from assay.deployment.registry_moves import promote
from assay.errors import AssayError, DataError
from assay.model.registry import champion
from assay.model.versions import CHALLENGER, CHAMPION, PREVIOUS, versions_of


def aliases(lab):
    return {alias: one.number for one in versions_of(lab.client, lab.name) for alias in one.aliases}


def test_promoting_moves_the_champion_keeps_the_one_before_and_can_be_repeated(lab, run):
    lab.add()
    lab.add(alias=CHALLENGER)
    lab.build_features()
    code, lines, json, _ = run(lab, "promote", "challenger")
    assert (code, json["status"], json["previous"]) == (0, "done", "1 (1.0.0)")
    assert (
        lines[0] == "model towns.price version 2 (1.0.1) is champion now; before it was 1 (1.0.0), which is `previous`"
    )
    assert aliases(lab) == {CHAMPION: 2, PREVIOUS: 1}
    assert champion(lab.tracking, "price").number == "2"
    commits = lab.plane.version("model_registry")
    code, lines, json, _ = run(lab, "promote", "2")
    assert (code, json["status"], aliases(lab)) == (0, "unchanged", {CHAMPION: 2, PREVIOUS: 1})
    assert lab.plane.version("model_registry") == commits
    assert run(lab, "promote", "previous")[0] == 0
    assert aliases(lab) == {CHAMPION: 1, PREVIOUS: 2}


def test_a_promotion_killed_after_any_step_ends_the_same_when_it_is_repeated(lab, monkeypatch):
    lab.add()
    lab.add(alias=CHALLENGER)
    context, left, client = lab.context(), [0], type(lab.client)

    def killing(original):
        def call(*given, **named):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return original(*given, **named)

        return call

    places = [(client, "set_registered_model_alias"), (client, "delete_registered_model_alias")]
    for steps in range(4):
        left[0] = steps
        with monkeypatch.context() as patched:
            for place, name in (*places, (registry_moves, "write_registry")):
                patched.setattr(place, name, killing(getattr(place, name)))
            with pytest.raises(KeyboardInterrupt):
                promote(context, "2", None)
        promote(context, "2", None)
        assert aliases(lab) == {CHAMPION: 2, PREVIOUS: 1}
        assert [row["state"] for row in lab.table("model_registry")] == ["previous", "serving"]
        lab.client.set_registered_model_alias(lab.name, CHAMPION, "1")
        lab.client.set_registered_model_alias(lab.name, CHALLENGER, "2")
        lab.client.delete_registered_model_alias(lab.name, PREVIOUS)


def test_a_corrupted_version_is_not_promoted(lab, run):
    lab.add()
    lab.add(alias=CHALLENGER)
    path = lab.files_of(2) / "artifacts" / "bundle" / "booster.ubj"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    code, _, json, err = run(lab, "promote", "2")
    assert (code, len(err)) == (1, 1)
    assert "model towns.price version 2 (1.0.1): file artifacts/bundle/booster.ubj was changed after it was" in err[0]
    assert "not promoted: promote another one, or train again" in json["error"]
    assert aliases(lab) == {CHAMPION: 1, CHALLENGER: 2}


def test_a_version_of_other_features_than_the_table_has_is_not_promoted(lab):
    lab.add()
    lab.add(alias=CHALLENGER)
    lab.build_features(plan_hash="other")
    run_id = lab.tags("2")["assay.run_id"]
    with pytest.raises(
        DataError, match=r"version 2 \(1\.0\.1\) learned from features of plan abc123, and the table"
    ) as caught:
        promote(lab.context(), "2", None)
    assert "was built by plan other: give the dataset the columns and features of then" in str(caught.value)
    assert f"(config.json of MLflow run {run_id}), run build_features, and promote; or train again" in str(caught.value)
    lab.build_features(columns=("size", "city"))
    with pytest.raises(DataError, match="has no column 'price__own__lag_1'"):
        promote(lab.context(), "2", None)
    assert aliases(lab) == {CHAMPION: 1, CHALLENGER: 2}
    promote(lab.context(), "1", None)  # who serves already is no question of features
    lab.build_features()
    promote(lab.context(), "2", None)
    assert aliases(lab) == {CHAMPION: 2, PREVIOUS: 1}


def test_retiring_forbids_promotion_and_can_be_repeated(lab, run):
    for _ in range(3):
        lab.add()
    code, lines, json, _ = run(lab, "retire", "1")
    assert (code, json["status"]) == (0, "done")
    assert lines[0] == "model towns.price version 1 (1.0.0) is retired; `registry cleanup` removes it"
    when = lab.tags("1")["assay.retired_at"]
    assert dt.datetime.now(dt.timezone.utc) - dt.datetime.fromisoformat(when) < dt.timedelta(minutes=2)
    assert run(lab, "retire", "1.0.0")[2]["status"] == "unchanged"
    assert lab.tags("1")["assay.retired_at"] == when
    (row, *_) = lab.table("model_registry")
    assert (row["state"], row["retired_at"].isoformat()) == ("retired", when)
    code, _, _, err = run(lab, "promote", "1")
    assert code == 2
    assert f"version 1 (1.0.0) was retired on {when[:10]}: promote another one" in err[0]


def test_who_is_needed_is_not_retired_and_the_error_says_what_to_do(lab, run):
    for _ in range(3):
        lab.add()
    lab.client.set_registered_model_alias(lab.name, CHALLENGER, "1")
    refused = {which: run(lab, "retire", which) for which in ("champion", "previous", "challenger")}
    assert [one[0] for one in refused.values()] == [2, 2, 2]
    assert "version 3 (1.0.2) is champion: promote another one first" in refused["champion"][3][0]
    assert "version 2 (1.0.1) is previous: it is what one would go back to" in refused["previous"][3][0]
    assert "version 1 (1.0.0) is challenger: end what it is there for" in refused["challenger"][3][0]
    lab.client.delete_registered_model_alias(lab.name, CHALLENGER)
    assert "scoring.shadows names '1.0.0'" in run(lab, "retire", "1", "--set", 'scoring.shadows=["1.0.0"]')[3][0]
    lab.deploy(("d1", ["split"], "3", "1"))
    assert "is needed: deployment d1 (split); end that first" in run(lab, "retire", "1")[3][0]
    lab.deploy(("d1", ["split", "rolled_back"], "3", "1"))
    assert run(lab, "retire", "1")[0] == 0


def test_the_table_is_what_mlflow_has(lab, run):
    lab.register(lab.train(features=3), coverage={0.8: 0.81, 0.9: 0.91})
    lab.add()
    lab.add(alias=CHALLENGER)
    run(lab, "promote", "3")
    run(lab, "retire", "1")
    first, second, third = lab.table("model_registry")
    assert [one["state"] for one in (first, second, third)] == ["retired", "previous", "serving"]
    assert [one["semantic_version"] for one in (first, second, third)] == ["1.0.0", "1.0.1", "1.0.2"]
    assert [one["parent"] for one in (first, second, third)] == [None, 1, 2]
    assert [one["aliases"] for one in (first, second, third)] == [[], ["previous"], ["champion"]]
    assert (first["target"], first["number"], first["rows"], first["features_version"]) == ("price", 1, 400, 3)
    assert (first["rmse"], first["r2"], first["within_20pct"], first["log_loss"]) == (12.5, 0.9, 95.0, None)
    assert (first["levels"], first["test_coverage"], second["levels"]) == ([0.8, 0.9], [0.81, 0.91], [])
    assert first["learned_until"] == dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    assert first["model_version"] == lab.tags("1")["assay.model_version"]
    assert (first["engine"], first["plan_hash"], first["observations_version"]) == ("xgboost", "abc123", 2)


def test_a_changed_version_is_refused_where_its_alias_was_moved_by_hand(lab):
    lab.add()
    path = lab.files_of(1) / "pyfunc.py"
    path.write_text(path.read_text(encoding="utf-8") + "import os\n", encoding="utf-8")
    with pytest.raises(AssayError, match=r"version 1 \(1\.0\.0\): file pyfunc\.py was changed"):
        promote(lab.context(), "champion", None)
