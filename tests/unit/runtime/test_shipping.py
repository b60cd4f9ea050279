"""Consumes the installed package, checks that its zip is all that a clean interpreter needs to import it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import assay
from assay.runtime import shipping
from assay.runtime.shipping import package_zip

ROOT = Path(assay.__file__).parent


def run(code, archive, folder):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    script = f"import sys; sys.path.insert(0, {str(archive)!r}); {code}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_modules_are_imported_from_the_zip(tmp_path):
    archive = package_zip(tmp_path)
    modules = ("assay", "assay.runtime.arrow_files", "assay.training.xgboost_engine", "assay.scoring.kernel")
    code = f"import importlib; [print(importlib.import_module(m).__file__) for m in {modules}]"
    for line in run(code, archive, tmp_path).splitlines():
        assert line.startswith(f"{archive}/assay/")


def test_it_holds_every_module_and_nothing_else(tmp_path):
    with zipfile.ZipFile(package_zip(tmp_path)) as archive:
        names = set(archive.namelist())
    assert {str(Path("assay") / p.relative_to(ROOT)) for p in ROOT.rglob("*.py")} <= names
    assert "assay/evaluation/report.html.j2" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_its_name_says_what_code_it_holds(tmp_path, monkeypatch):
    first = package_zip(tmp_path)
    assert package_zip(tmp_path) == first
    copied = tmp_path / "copy" / "assay"
    shutil.copytree(ROOT, copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(shipping, "__file__", str(copied / "runtime" / "shipping.py"))
    assert package_zip(tmp_path).name == first.name
    with (copied / "metrics.py").open("a", encoding="utf-8") as module:
        module.write("# another line\n")
    assert package_zip(tmp_path).name != first.name


def test_a_package_that_came_as_a_zip_is_not_shipped_again(tmp_path):
    archive = package_zip(tmp_path)
    assert run("from assay.runtime.shipping import package_zip; print(package_zip())", archive, tmp_path) == "None"


def test_no_folder_is_left_behind(tmp_path):
    code = "from assay.runtime.shipping import package_zip; print(package_zip())"
    left = Path(run(code, ROOT.parent, tmp_path))
    assert left.suffix == ".zip"
    assert not left.parent.exists()
