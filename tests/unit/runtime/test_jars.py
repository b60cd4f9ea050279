"""Delta's jars are used only when they are the files that were fetched, for the versions that are installed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
from pathlib import Path

import pytest

from assay.errors import AssayError
from assay.runtime import jars


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ivy's part played by a function that writes small files; the list holds the calls."""
    calls: list[str] = []

    def fake_run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(" ".join(command))
        folder = Path(command[command.index("-ivy") + 1]).parent
        for module in jars.PINNED:
            (folder / jars._file_name(module)).write_bytes(module[1].encode())
        return subprocess.CompletedProcess(command, 0, "resolved", "")

    monkeypatch.setattr(jars, "PINNED", {m: hashlib.sha256(m[1].encode()).hexdigest() for m in jars.PINNED})
    monkeypatch.setattr(jars.subprocess, "run", fake_run)
    return calls


def test_fetches_once_and_verifies(tmp_path: Path, arrived: list[str]) -> None:
    target = tmp_path / "jars ä"
    found = jars.resolve(target)
    assert [Path(f).name for f in found] == [
        f"delta-spark_{jars._spark_line()}_2.13-4.4.0.jar",
        "delta-storage-4.4.0.jar",
    ]
    assert jars.resolve(target) == found
    assert len(arrived) == 1
    assert not list(target.glob(".fetch-*"))


@pytest.mark.parametrize(
    ("pyspark", "line"), [("4.0.5", "4.0"), ("4.1.4", "4.1"), ("4.9.0", "4.1"), ("3.5.7", "4.1"), (None, "4.1")]
)
def test_the_jar_is_the_one_built_for_the_installed_spark(
    monkeypatch: pytest.MonkeyPatch, pyspark: str | None, line: str
) -> None:
    def version(name: str) -> str:
        if pyspark is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return pyspark

    monkeypatch.setattr(jars.importlib.metadata, "version", version)
    assert jars._spark_line() == line


def test_spark_takes_the_coordinate_of_the_jar_that_is_fetched() -> None:
    assert f"io.delta:delta-spark_{jars._spark_line()}_2.13:{jars.DELTA}" == jars.COORDINATE
    assert jars.COORDINATE.rpartition(":")[2] == importlib.metadata.version("delta-spark")


@pytest.mark.parametrize("harm", ["altered", "lost", "other version", "no manifest", "broken manifest"])
def test_anything_amiss_means_no_jars(tmp_path: Path, arrived: list[str], harm: str) -> None:
    first, *_ = jars.resolve(tmp_path)
    manifest = tmp_path / jars.MANIFEST
    if harm == "altered":
        Path(first).write_bytes(b"?")
    elif harm == "lost":
        Path(first).unlink()
    elif harm == "other version":
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "pyspark": "4.0.0"}))
    elif harm == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text("[]")
    assert jars._verified(tmp_path) == []
    assert len(jars.resolve(tmp_path)) == 2


def test_another_file_under_the_same_name_is_refused(
    tmp_path: Path, arrived: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "PINNED", dict.fromkeys(jars.PINNED, "0" * 64))
    with pytest.raises(AssayError, match="is not the expected file"):
        jars.resolve(tmp_path)
    assert not (tmp_path / jars.MANIFEST).exists()


def test_no_network_is_said_plainly_after_three_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = "Server access error at url x (java.net.ConnectException: Connection refused)"
    monkeypatch.setattr(jars.subprocess, "run", lambda c, **_: subprocess.CompletedProcess(c, 1, report, ""))
    monkeypatch.setattr(jars.time, "sleep", lambda _: None)
    monkeypatch.setattr(jars, "environment_jars", lambda: tmp_path)
    assert jars.main() == 1
    said = capsys.readouterr().err
    assert said.count("trying again") == 2
    assert "Connection refused" in said.splitlines()[-1]
    assert "https_proxy" in said.splitlines()[-1]


def test_proxy_reaches_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert jars._proxy_options() == ["-Dhttps.proxyHost=proxy.example", "-Dhttps.proxyPort=3128"]
    monkeypatch.setenv("https_proxy", "")
    monkeypatch.setenv("HTTPS_PROXY", "")
    assert jars._proxy_options() == []
