"""Consumes registered versions and what needs them, checks what clean-up removes, keeps, and leaves on record."""

from __future__ import annotations

import datetime as dt
import json
import shutil

import pytest
from registry_lab import Lab

from assay.deployment import registry_cleanup
from assay.deployment.registry_cleanup import cleanup, decide
from assay.deployment.registry_verify import trained_problems, version_problems
from assay.errors import DataError
from assay.model import stored
from assay.model.registry import champion, load_trained
from assay.model.versions import RETIRED, SEMANTIC, Version, versions_of
from small_models import calibrate_model

NOW = dt.datetime(2024, 6, 1, tzinfo=dt.timezone.utc)


def version(number, days, *, retired=False):
    created = NOW - dt.timedelta(days=days)
    tags = {SEMANTIC: f"1.0.{number}", "assay.run_id": f"r{number}", **({RETIRED: "2024-05-01"} if retired else {})}
    return Version("towns.price", number, tags, (), "models:/m", "c", created)


@pytest.mark.parametrize(
    ("keep_versions", "keep_days", "needed", "removed"),
    [
        (0, 0, {}, [1, 2, 3, 4, 5]),
        (5, 0, {}, [2]),
        (2, 0, {}, [1, 2, 3]),
        (0, 50, {}, [1, 2, 3]),
        (1, 15, {}, [1, 2, 3, 4]),
        (1, 45, {}, [1, 2, 3]),
        (0, 0, {1: ["x"], 2: ["x"]}, [3, 4, 5]),
        (9, 999, {2: ["x"]}, []),
    ],
)
def test_what_is_neither_needed_nor_among_the_newest_nor_recent_goes_and_so_does_what_is_retired(
    keep_versions, keep_days, needed, removed
):
    versions = [version(n, days, retired=n == 2) for n, days in ((1, 100), (2, 90), (3, 60), (4, 40), (5, 20))]
    found = decide("price", versions, needed, NOW, keep_versions, keep_days)
    assert [one.version.number for one in found if not one.kept] == removed
    assert all(one.why for one in found)


def test_without_yes_it_is_told_and_not_done_with_it_files_and_records_go(lab, run):
    first = lab.train()
    lab.register(first)
    lab.add()
    lab.add()
    lab.aged(v1=200, v2=200, v3=200)
    code, lines, told, _ = run(lab, "cleanup", "--keep-versions", "1")
    assert (code, told["status"], [one["number"] for one in told["would_remove"]]) == (0, "dry run", [1])
    assert lines[0].startswith("would remove model towns.price version 1 (1.0.0): registered 200.0 days ago, not among")
    assert lines[1] == "kept model towns.price version 2 (1.0.1): alias previous"
    assert lines[-2] == "nothing was removed: this was a dry run; --yes removes them"
    assert lab.numbers() == [1, 2, 3]
    assert version_problems(lab.tracking, versions_of(lab.client, lab.name)[0]) == []

    files, source = lab.files_of(1), lab.client.get_model_version(lab.name, "1").source.removeprefix("models:/")
    bundle = lab.workspace / "mlartifacts" / first.run_id / "artifacts" / "bundle"
    assert (bundle / "booster.ubj").is_file()
    code, lines, told, _ = run(lab, "cleanup", "--keep-versions", "1", "--yes")
    assert (code, told["status"], [one["number"] for one in told["removed"]]) == (0, "done", [1])
    assert lab.numbers() == [2, 3]
    assert not files.exists()
    assert not bundle.exists()
    with pytest.raises(lab.tracking.mlflow.MlflowException):
        lab.client.get_logged_model(source)
    tags = lab.client.get_run(first.run_id).data.tags
    record = json.loads(tags["assay.removed.1"])
    assert record["version"] == "1 (1.0.0)"
    assert "nothing needs it" in record["why"]
    assert [row["number"] for row in lab.table("model_registry")] == [2, 3]
    assert champion(lab.tracking, "price").number == "3"
    for one in versions_of(lab.client, lab.name):
        assert version_problems(lab.tracking, one) == trained_problems(lab.tracking, one.trained_run_id) == []

    commits = lab.plane.version("model_registry")
    code, _, told, _ = run(lab, "cleanup", "--keep-versions", "1", "--yes")
    assert (code, told["status"], told["removed"]) == (0, "unchanged", [])
    assert lab.plane.version("model_registry") == commits
    with pytest.raises(DataError, match="removed by `registry cleanup`; train again"):
        load_trained(lab.tracking, first.run_id)


def test_what_was_removed_is_made_anew_when_it_is_asked_for_again_under_a_number_of_its_own(lab):
    trained = lab.train()
    lab.register(trained)
    lab.add()
    lab.add()
    lab.client.set_tag(trained.run_id, "assay.identity", "t-first")
    assert lab.tracking.finished("train", "t-first").run_id == trained.run_id
    cleanup(lab.context(), None, keep_days=0, keep_versions=0, yes=True)
    assert lab.numbers() == [2, 3]
    assert lab.tracking.finished("train", "t-first") is None
    again = lab.train(trained.model)
    assert lab.register(again) == "4"
    assert [str(one.semantic) for one in versions_of(lab.client, lab.name)] == ["1.0.1", "1.0.2", "1.0.3"]


def test_the_last_version_of_a_line_that_was_removed_leaves_its_semantic_version_taken(lab):
    lab.add()
    lab.add(alias="challenger")
    lab.client.delete_registered_model_alias(lab.name, "challenger")
    cleanup(lab.context(), None, keep_days=0, keep_versions=0, yes=True)
    lab.add()
    assert [str(one.semantic) for one in versions_of(lab.client, lab.name)] == ["1.0.0", "1.0.2"]


def reasons(lab, *overrides, **told):
    """Number -> why a version would be kept, by aliases and needs alone; and the numbers that would be removed."""
    facts = cleanup(lab.context(*overrides, **told), None, keep_days=0, keep_versions=0).facts
    return {one["number"]: one["why"] for one in facts["kept"]}, [one["number"] for one in facts["would_remove"]]


@pytest.fixture(scope="module")
def five(tmp_path_factory, empty_store, model):
    """Five versions, the fifth champion; of the first another model was tested."""
    workspace = tmp_path_factory.mktemp("five")
    shutil.copy(empty_store, workspace / "mlflow.db")
    lab = Lab(workspace, model)
    lab.register(lab.train(served=lab.changed()))
    for _ in range(4):
        lab.add()
    return lab


def test_aliases_keep_versions(five):
    kept, removed = reasons(five)
    assert (kept, removed) == ({4: "alias previous", 5: "alias champion"}, [1, 2, 3])
    five.client.set_registered_model_alias(five.name, "audited", "2")
    try:
        kept, removed = reasons(five)
        assert (kept[2], removed) == ("alias audited", [1, 3])
    finally:
        five.client.delete_registered_model_alias(five.name, "audited")


def test_shadows_keep_versions(five):
    kept, removed = reasons(five, 'scoring.shadows=[1, "price:1.0.2", "rent:2"]')
    assert (kept[1], kept[3]) == ("scoring.shadows names '1'", "scoring.shadows names 'price:1.0.2'")
    assert removed == [2]


def test_deployments_that_have_not_ended_keep_their_versions(five):
    five.deploy(("d1", ["shadowing"], "5", "1"), ("d2", ["split", "rolled_back"], "5", "2"))
    kept, removed = reasons(five)
    assert (kept[1], removed) == ("deployment d1 (shadowing)", [2, 3])
    assert kept[5] == "alias champion; deployment d1 (shadowing)"
    five.deploy(("d1", ["watched", "completed"], "5", "1"), ("d3", ["split", "split"], "5", "3"))
    assert reasons(five)[1] == [1, 2]
    five.deploy()


def test_predictions_keep_the_versions_that_made_them_until_they_expire(five):
    newest = five.tags("5")["assay.run_id"]
    five.predict("2", days_ago=20, shadow=True)
    five.predict("1", days_ago=20, tested=True, run_id=newest)
    kept, removed = reasons(five, "registry.keep_predictions_days=30")
    assert kept[1] == "rows of predictions of the last 30 days are its"
    assert kept[2] == "rows of shadow_predictions of the last 30 days are its"
    assert 2 not in removed
    kept, removed = reasons(five, "registry.keep_predictions_days=10")
    assert {1, 2} <= set(removed)
    then = f"{dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=15):%Y-%m-%d}"
    assert {1, 2} <= set(reasons(five, "registry.keep_predictions_days=10", date=then)[0])


def test_the_training_run_that_evaluate_reads_is_kept(five):
    five.predict("3", days_ago=900)
    kept, _ = reasons(five)
    assert kept[3] == "evaluate needs its training run, from which the present predictions come"


def test_a_training_run_stays_while_a_version_of_it_is_kept(lab):
    trained = lab.train()
    lab.register(trained)
    recalibrated = lab.register(trained, calibration=calibrate_model(lab.model, seed=9))
    lab.add()
    cleanup(lab.context(), None, keep_days=0, keep_versions=0, yes=True)
    assert lab.numbers() == [2, 3]
    assert recalibrated == "2"
    assert load_trained(lab.tracking, trained.run_id).model == trained.model
    assert "assay.models_removed_at" not in lab.client.get_run(trained.run_id).data.tags


def test_killed_after_any_step_and_run_again_it_ends_the_same(lab, monkeypatch):
    runs = []
    for _ in range(2):
        trained = lab.train()
        runs.append(trained.run_id)
        lab.register(trained)
    lab.add()
    lab.add()
    left, client = [0], type(lab.client)

    def killing(original):
        def call(*given, **named):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return original(*given, **named)

        return call

    killed = 0
    with monkeypatch.context() as patched:
        for place, name in (
            *((registry_cleanup, name) for name in ("keep_taken", "_note", "remove_artifacts", "write_registry")),
            (stored, "remove_artifacts"),
            (client, "delete_logged_model"),
            (client, "delete_model_version"),
        ):
            patched.setattr(place, name, killing(getattr(place, name)))
        while True:
            left[0] = killed
            try:
                cleanup(lab.context(), None, keep_days=0, keep_versions=0, yes=True)
                break
            except KeyboardInterrupt:
                killed += 1
    assert killed > 10
    assert lab.numbers() == [3, 4]
    assert len(list((lab.workspace / "mlartifacts" / "models").glob("*/artifacts"))) == 2
    for number, run_id in enumerate(runs, start=1):
        assert not list((lab.workspace / "mlartifacts" / run_id / "artifacts").glob("bundle*"))
        assert f"assay.removed.{number}" in lab.client.get_run(run_id).data.tags
    assert [row["number"] for row in lab.table("model_registry")] == [3, 4]
    assert [version_problems(lab.tracking, one) for one in versions_of(lab.client, lab.name)] == [[], []]
    assert cleanup(lab.context(), None, keep_days=0, keep_versions=0, yes=True).status == "unchanged"


def test_files_that_a_version_of_another_name_has_too_stay(lab):
    lab.add()
    lab.add()
    lab.add()
    files = lab.files_of(1)
    lab.client.create_registered_model("elsewhere")
    lab.client.create_model_version("elsewhere", lab.client.get_model_version(lab.name, "1").source)
    cleanup(lab.context(), None, keep_days=0, keep_versions=0, yes=True)
    assert lab.numbers() == [2, 3]
    assert (files / "MLmodel").is_file()
