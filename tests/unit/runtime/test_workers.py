"""Consumes zips and modules, checks that workers read zips again when they change and search no modules."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import types
import zipfile
import zipimport

import pytest

from assay.runtime import workers
from assay.runtime.workers import prepare_worker


def write(path, names, stamp):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.py", "WHAT = 1\n")
    os.utime(path, (stamp, stamp))


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python reads zips late by itself")
def test_a_zip_is_read_again_when_it_has_changed_and_only_then(tmp_path, monkeypatch):
    monkeypatch.setattr(zipimport.zipimporter, "invalidate_caches", zipimport.zipimporter.invalidate_caches)
    prepare_worker()
    once = zipimport.zipimporter.invalidate_caches
    prepare_worker()
    assert zipimport.zipimporter.invalidate_caches is once
    reads = []
    read = zipimport._read_directory
    monkeypatch.setattr(zipimport, "_read_directory", lambda path: reads.append(path) or read(path))
    archive = str(tmp_path / "more.zip")
    write(archive, ["assay_one"], 1_000_000)
    monkeypatch.syspath_prepend(archive)
    assert importlib.import_module("assay_one").WHAT == 1
    importlib.invalidate_caches()
    reads.clear()
    for _ in range(3):
        importlib.invalidate_caches()
    assert archive not in reads
    write(archive, ["assay_one", "assay_two"], 1_000_100)
    importlib.invalidate_caches()
    assert archive in reads
    assert importlib.import_module("assay_two").WHAT == 1
    for name in ("assay_one", "assay_two"):
        del sys.modules[name]


def test_modules_are_left_out_of_the_search_for_garbage_and_what_tasks_leave_is_not(monkeypatch):
    monkeypatch.setattr(workers, "_imported", 0)
    try:
        prepare_worker()
        kept = gc.get_freeze_count()
        assert kept > 10_000
        garbage = [[] for _ in range(1_000)]
        prepare_worker()
        assert gc.get_freeze_count() <= kept
        monkeypatch.setitem(sys.modules, "assay_new", types.ModuleType("assay_new"))
        prepare_worker()
        assert gc.get_freeze_count() > kept + len(garbage) - 100
    finally:
        gc.unfreeze()
