"""Consumes a real cluster of two workers, checks what a doctor finds out about it."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.cluster


def test_executors_are_asked(cluster, tmp_path):
    done = cluster.job("doctor", "--workspace", str(tmp_path / "workspace"), "--json")
    told = json.loads(done.stdout.splitlines()[-1])
    found = {one["check"]: one for one in told["findings"]}
    assert (done.returncode, told["status"]) == (0, "done"), told
    assert found["executors"]["told"] == f"2 on 1 host(s), 2 task slots; {cluster.master}"
    assert found["shared storage"]["told"] == f"executors read and write {tmp_path}"
    assert "with the driver's" in found["Python of executors"]["told"]
    assert found["memory of executors"]["told"] == "1.0 GiB for Python on each, 1 task(s) at once"
    assert found["Delta"]["status"] == "ok"
    assert list(tmp_path.iterdir()) == []
