"""Consumes modules and files of extensions, checks how they are found, carried to executors, and refused."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from assay import extensions
from assay.config import load_run
from assay.conformal.calibration import Calibration
from assay.conformal.scores import score_named
from assay.errors import AssayError, ConfigError, UserError
from assay.model.ensemble import Combination, Member, packed
from assay.model.predictors import load_predictor
from assay.runtime.shipping import module_zip

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = dict(re.findall(r"```python\n# (\w+\.py): .*\n(?s:(.*?))```", (ROOT / "README.md").read_text("utf-8")))
SCORE = """
class Score:
    name = "{name}"
    def parts(self, levels): ...
    def score(self, y, forecast, levels): return {says}
    def interval(self, forecast, quantiles, levels): ...
EXTENSIONS = (Score(),)
"""


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """As in a process that has loaded nothing; modules that a test imports are forgotten."""
    for name in ("_found", "_references", "_files", "_digests"):
        monkeypatch.setattr(extensions, name, {})
    monkeypatch.delenv(extensions.VARIABLE, raising=False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_") or f"{name}.py" in EXAMPLES:
            del sys.modules[name]


@pytest.fixture
def module(tmp_path):
    """module("my_score", text) -> path of a file with it; without a text a score that is called like the module."""

    def write(name, text=None, *, says="1", folder="."):
        path = tmp_path / folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCORE.format(name=name, says=says) if text is None else text, encoding="utf-8")
        os.utime(path, ns=(0, 0))  # as files of some archives are, and none is told from another by its time
        importlib.invalidate_caches()
        return str(path)

    return write


def test_a_file_a_module_and_the_environment_are_the_same(module, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    paths = [module("my_file"), module("my_module"), module("my_told")]
    assert extensions.load([paths[0], "my_module"]) == ["my_file", "my_module"]
    monkeypatch.setenv(extensions.VARIABLE, f" {paths[2]} ,")
    assert {"my_file", "my_module", "my_told"} <= set(extensions.names("score"))
    for name in ("my_file", "my_module", "my_told"):
        found = extensions.get("score", name)
        assert (found.kind, found.name, found.module) == ("score", name, name)
        assert score_named(name) is found.item
    assert extensions.find("engine", "my_file") is None


def test_an_installed_package_announces_what_it_has(module, tmp_path, monkeypatch):
    module("my_package", SCORE.format(name="announced", says="1"))
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n", encoding="utf-8")
    entries = "announced = my_package:Score\nother = my_package:Score\nlost = my_nowhere:Score\n"
    (info / "entry_points.txt").write_text(f"[assay.scores]\n{entries}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert "my_package" not in sys.modules
    assert set(extensions.names("score")) >= {"announced", "other", "lost"}
    assert "my_package" not in sys.modules  # imported when it is wanted, and not before
    assert extensions.get("score", "announced").module == "my_package"
    with pytest.raises(ConfigError, match="'other', announced as my_package:Score, has the name 'announced'"):
        extensions.find("score", "other")
    with pytest.raises(ConfigError, match="announces as my_nowhere:Score, cannot be imported: ModuleNotFoundError"):
        extensions.find("score", "lost")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "module my_bad has no tuple EXTENSIONS of what it adds"),
        ("EXTENSIONS = ()", "has no tuple EXTENSIONS"),
        (
            "EXTENSIONS = (1,)",
            r"module my_bad: int is no extension. What each has \(engine: load, learn or fit, kinds; ",
        ),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("import my_absent", "needs my_absent, which is not installed"),
        (SCORE.format(name="a b", says="1"), "Score needs a `name` of letters, digits and _ .found 'a b'"),
    ],
)
def test_what_is_no_extension_is_refused_in_one_line(module, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        extensions.load([module("my_bad", text)])
    assert "\n" not in str(caught.value)
    assert not extensions.carried()


def test_names_are_taken_once(module):
    extensions.load([module("my_one", SCORE.format(name="same", says="1"))])
    with pytest.raises(ConfigError, match="score 'same' is in two modules, my_one and my_two; rename one"):
        extensions.load([module("my_two", SCORE.format(name="same", says="1"))])
    with pytest.raises(ConfigError, match=r"json.py: Python has a module json already .*; rename the file"):
        extensions.load([module("json")])
    with pytest.raises(ConfigError, match=r"no module my_typo on Python's path; of a file write its path: my_typo\.py"):
        extensions.load(["my_typo"])
    with pytest.raises(ConfigError, match=r"my_typo.py: there is no such file"):
        extensions.load(["my_typo.py"])


def test_an_engine_with_the_name_of_one_of_ours_is_never_taken_for_it(module, flats):
    text = "class Engine:\n    name, kinds = 'linear', ()\n    def load(self, stored, threads): ...\n"
    path = module("my_engine", f"{text}    def learn(self): ...\nEXTENSIONS = (Engine(),)\n")
    with pytest.raises(ConfigError, match="module my_engine: its engine 'linear' has the name of one of assay's own"):
        load_run(dataset=flats, overrides=[f"runtime.extensions=[{path}]"])
    assert type(load_predictor_of("linear")).__name__ == "Linear"


def load_predictor_of(engine):
    from assay.model.learner_inputs import LearnerInputs
    from assay.model.linear import Linear

    none, nobody = np.zeros(0), np.zeros(0, np.int32)
    stored = Linear(LearnerInputs(none, none, none, nobody, nobody), none, 3.0, none, none).store()
    return load_predictor(engine, stored, threads=1)


def test_an_edited_file_is_read_again_and_makes_another_run(module, flats):
    path = module("my_score", says="1")
    told = {"dataset": flats, "overrides": [f"runtime.extensions=[{path}]", "conformal.score=my_score"]}
    first = load_run(**told)
    before = first.extended
    assert (load_run(**told).extended, first.profile.runtime.extensions) == (before, (path,))
    assert first.resolved()["runtime"]["extensions"] == ["my_score"]  # and no folder of this machine
    module("my_score", says="2")
    second = load_run(**told)
    assert score_named("my_score").score(None, None, None) == 2
    assert list(before) == list(second.extended) == ["score my_score"]
    assert before != second.extended
    assert load_run(dataset=flats).extended == {}


def test_intervals_of_another_version_of_a_score_are_refused(module):
    extensions.load([module("my_score")])
    told = extensions.get("score", "my_score").told
    extensions.load([module("my_score", says="2")])
    with pytest.raises(
        UserError, match=r"my_score is not what the intervals were calibrated with .*run calibrate again"
    ):
        Calibration.from_dict({"score": "my_score", "score_of": told})


def test_an_executor_takes_what_the_driver_has(module, tmp_path, monkeypatch):
    path = module("my_score", says="1")
    extensions.load([path])
    carried, archive = extensions.carried(), module_zip("my_score", tmp_path / "..")
    with zipfile.ZipFile(archive) as content:
        assert content.namelist() == ["my_score.py"]
    module("my_score", says="2")
    extensions.load([path])
    edited, later = extensions.carried(), module_zip("my_score", tmp_path / "..")
    assert archive != later
    for name in ("_found", "_references", "_files", "_digests"):
        monkeypatch.setattr(extensions, name, {})
    del sys.modules["my_score"]
    Path(path).unlink()
    with pytest.raises(AssayError, match="an executor has no module my_score, which the driver has"):
        extensions.accept(carried)
    for references, zipped, says in ((carried, archive, 1), (edited, later, 2)):  # a worker that lives on after an edit
        monkeypatch.syspath_prepend(zipped)
        extensions.accept(references)
        extensions.accept(references)
        assert score_named("my_score").score(None, None, None) == says


def test_installed_packages_are_not_sent_and_others_whole(module, tmp_path, monkeypatch):
    assert module_zip("numpy") is None
    monkeypatch.syspath_prepend(tmp_path)
    module("__init__", "", folder="my_company")
    module("scores", SCORE.format(name="nested", says="1"), folder="my_company")
    extensions.load(["my_company.scores"])
    with zipfile.ZipFile(module_zip("my_company.scores", tmp_path)) as archive:
        assert sorted(archive.namelist()) == ["my_company/__init__.py", "my_company/scores.py"]


def test_an_ensemble_has_members_of_extensions_and_says_what_is_missing(module, monkeypatch):
    text = "class Engine:\n    name, kinds = 'my_engine', ('value',)\n    def learn(self): ...\n"
    text += "    def load(self, stored, threads): return stored\nEXTENSIONS = (Engine,)\n"
    stored = packed(
        [Member("a", "my_engine", b"x"), Member("b", "my_engine", b"y")], Combination("average", np.ones(2))
    )
    with pytest.raises(UserError, match="engine 'my_engine' is none of assay's own"):
        load_predictor("ensemble", stored, threads=1)
    extensions.load([module("my_engine", text)])
    assert list(load_predictor("ensemble", stored, threads=1).members.values()) == [b"x", b"y"]


def test_readmes_commands_run_the_contracts_on_its_examples(tmp_path):
    """As README says it, but both at once."""
    for name in ("extra_trees.py", "relative.py"):
        (tmp_path / name).write_text(EXAMPLES[name], encoding="utf-8")
    suites = ["training/test_engine_contract.py", "conformal/test_conformal_scores.py"]
    for suite in suites:
        assert f"pytest tests/unit/{suite} -k " in (ROOT / "README.md").read_text(encoding="utf-8")
    files = ",".join(str(tmp_path / name) for name in ("extra_trees.py", "relative.py"))
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:xdist",
                "-k",
                "extra_trees or relative",
            ),
            *(str(ROOT / "tests" / "unit" / suite) for suite in suites),
        ],
        cwd=ROOT,
        env={**os.environ, extensions.VARIABLE: files},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\.{25,}", done.stdout, flags=re.MULTILINE), done.stdout
