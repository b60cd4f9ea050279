"""Consumes a workspace with registered versions, checks what `assay registry` tells: lists, differences, faults."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import yaml
from registry_lab import Lab

from assay import cli
from assay.deployment import registry_command
from small_models import calibrate_model

ALL = sorted(registry_command.COMMANDS)


@pytest.fixture(scope="module")
def told(tmp_path_factory, empty_store, model):
    """A workspace with three versions: the second learned from another input, the third is a challenger."""
    workspace = tmp_path_factory.mktemp("told")
    shutil.copy(empty_store, workspace / "mlflow.db")
    lab = Lab(workspace, model)
    lab.register(lab.train(features=3), coverage={0.8: 0.8125, 0.9: 0.9})
    encoding = dataclasses.replace(model.encoding, numeric=("price__own__lag_1", "size", "rooms"))
    lab.runs += 1
    wider = lab.changed(encoding=encoding, plan_hash="def456", plan={**model.plan, "lags": [1, 7]})
    lab.register(lab.train(wider, features=9), calibration=calibrate_model(model, levels=(0.8, 0.95)))
    lab.register(lab.train(lab.changed()), alias="challenger")
    return lab


def test_help_of_every_command_shows_an_example(capsys):
    for name in ALL:
        with pytest.raises(SystemExit) as ended:
            cli.main(["registry", name, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert ended.value.code == 0
        assert f"Example: assay registry {name}" in text
        for option in ("--dataset", "--workspace", "--target", "--json"):
            assert option in text
    assert ALL == ["cleanup", "diff", "list", "promote", "retire", "show", "verify"]


def test_the_list_shows_number_semantic_version_state_and_figures(told, run):
    code, lines, json, err = run(told, "list")
    assert (code, err, lines[-1]) == (0, [], "registry list: done")
    assert lines[0].split()[:5] == ["target", "version", "state", "change", "engine"]
    first, second, third = lines[1:4]
    assert first.split()[:5] == ["price", "1", "(1.0.0)", "previous", "first"]
    assert "rmse 12.5" in first
    assert "80%: 81.2% 90%: 90.0%" in first
    assert second.split()[:4] == ["price", "2", "(2.0.0)", "serving"]
    assert third.split()[:4] == ["price", "3", "(3.0.0)", "challenger"]  # its features and levels are those of before
    assert [one["semantic_version"] for one in json["versions"]] == ["1.0.0", "2.0.0", "3.0.0"]
    assert (json["job"], json["status"], json["versions"][0]["features_version"]) == ("registry list", "done", 3)


def test_show_tells_lineage_and_figures_by_any_name_of_a_version(told, run):
    for which in ("1", "1.0.0", "previous"):
        code, lines, json, _ = run(told, "show", which)
        assert (code, lines[0]) == (0, "model towns.price version 1 (1.0.0): previous")
        assert f"  training run: {told.tags('1')['assay.run_id']}" in lines
        assert "  features version: 3" in lines
        assert "  test_rmse: 12.5" in lines
        assert json["lineage"]["observations_version"] == "2"
        assert json["coverage"] == {"0.8": 0.8125, "0.9": 0.9}
    assert "  parent (the champion of then): 1 (1.0.0)" in run(told, "show", "champion")[1]


def test_diff_tells_what_differs_and_nothing_else(told, run):
    code, lines, json, _ = run(told, "diff", "1", "champion")
    assert code == 0
    assert json["features"] == {"added": ["rooms"], "removed": [], "kind": {}, "order_changed": True}
    assert json["feature_plan"] == {"lags": [[1], [1, 7]]}
    assert json["tables"]["features_version"] == ["3", "9"]
    assert json["calibration"]["levels"] == [[0.8, 0.9], [0.8, 0.95]]
    assert json["metrics"]["test_coverage_0.8"] == [0.8125, None]
    assert "test_rmse" not in json["metrics"]
    assert (json["params"], json["config"]) == ({}, {})
    assert "  feature added: rooms" in lines
    assert "  the features come in another order" in lines
    assert "  tables features_version: 3 -> 9" in lines
    assert run(told, "diff", "1", "1")[1][1] == "  nothing differs"


def test_verify_says_where_a_version_of_before_has_no_list_of_its_files(lab, run):
    lab.add()
    lab.client.delete_model_version_tag(lab.name, "1", "assay.files_sha256")
    code, lines, _, _ = run(lab, "verify", "1")
    assert code == 0
    assert "models and calibrations (of other files there is no list): each is as it was registered" in lines[0]
    (lab.files_of(1) / "artifacts" / "bundle" / "model.json").write_text("{}", encoding="utf-8")
    code, lines, _, _ = run(lab, "verify", "1")
    assert (code, lines[0]) == (
        1,
        "model towns.price version 1 (1.0.0): file model.json was changed after it was saved",
    )


def test_diff_tells_parameters_and_settings_of_the_runs(lab, run):
    lab.add()
    overrides = ["engine.params.max_depth=4", "conformal.folds=2"]
    other = Lab(lab.workspace, lab.model, overrides=overrides)
    other.runs = 5
    trained = other.train()
    other.client.log_dict(trained.run_id, {"params": {"eta": 0.07}}, "tuned.json")
    other.register(trained)
    json = run(lab, "diff", "1", "2")[2]
    assert json["params"] == {"max_depth": [None, 4], "eta": [None, 0.07]}
    assert json["config"]["conformal.folds"] == [1, 2]
    assert not any("max_depth" in name for name in json["config"])
    assert "config_hash" in json["code"]


def test_verify_says_of_every_version_what_is_wrong_and_ends_with_1(told, run):
    code, lines, json, _ = run(told, "verify")
    assert (code, json["status"], lines[-2]) == (0, "done", "3 version(s) verified, 0 corrupted")
    assert lines[0] == "model towns.price version 1 (1.0.0): every file is as it was registered"
    registered, bundle = told.files_of(2), told.tags("2")["assay.run_id"]
    spoilt = [
        registered / "pyfunc.py",
        registered / "artifacts" / "bundle" / "model.json",
        told.workspace / "mlartifacts" / bundle / "artifacts" / "bundle" / "booster.ubj",
    ]
    kept = {path: path.read_bytes() for path in spoilt}
    for path, content in kept.items():
        path.write_bytes(content[:40] + bytes([content[40] ^ 8]) + content[41:])
    try:
        code, lines, json, _ = run(told, "verify")
        name = "model towns.price version 2 (2.0.0): "
        wrong = [line.removeprefix(name) for line in lines if line.startswith(name)]
        assert (code, json["status"], lines[-2]) == (1, "corrupted", "3 version(s) verified, 1 corrupted")
        assert wrong == [
            "file artifacts/bundle/model.json was changed after it was saved",
            "file pyfunc.py was changed after it was saved",
            f"bundle of training run {bundle}: file booster.ubj was changed after it was saved",
        ]
        assert [one["problems"] for one in json["versions"]] == [[], wrong, []]
        assert run(told, "verify", "1")[0] == 0
        assert run(told, "verify", "2.0.0")[0] == 1
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert run(told, "verify")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["show", "9"],
            "assay registry show: the model of price has no version or alias '9': it has 1 (1.0.0), 2 (2.0.0)",
        ),
        (["list", "--target", "prise"], "assay registry list: --target prise: dataset towns has price"),
        (["list", "--set", "registry.keep=3"], "assay registry list: --set registry.keep: unknown key; did you mean"),
        (["show"], "assay registry show: Missing argument 'VERSION'; see `assay registry show --help`"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(told, run, arguments, line):
    code, _, json, err = run(told, *arguments)
    assert (code, json["status"], len(err)) == (2, "failed", 1)
    assert err[0].startswith(line)


def test_a_workspace_that_is_not_there_is_not_made(tmp_path, told, run):
    told = dataclasses.make_dataclass("Told", ["dataset", "workspace"])(told.dataset, tmp_path / "nowhere")
    code, _, _, err = run(told, "list")
    assert (code, len(err)) == (2, 1)
    assert "no job has run there: run `assay pipeline` first" in err[0]
    assert not (tmp_path / "nowhere").exists()


def test_of_several_targets_a_command_about_one_asks_which(lab, run):
    tree = yaml.safe_load(lab.dataset.read_text(encoding="utf-8"))
    tree["targets"].append({"name": "rent"})
    lab.dataset.write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert run(lab, "list")[1][0] == "no version is registered: run train or pipeline first"
    code, _, _, err = run(lab, "show", "1")
    assert (code, err) == (2, ["assay registry show: dataset towns has price, rent: say which, --target price"])
    assert "no version of it is registered" in run(lab, "show", "1", "--target", "rent")[3][0]
