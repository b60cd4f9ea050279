"""Consumes few rows, checks that contenders of `benchmark drift` find the same distances and tell ratios right."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from assay.config.monitoring import MonitoringConfig  # noqa: E402
from assay.monitoring.comparison import Comparison  # noqa: E402
from assay.monitoring.drift import judged  # noqa: E402
from assay.runtime.local_plane import LocalPlane  # noqa: E402
from benchmarks import _drift, _drift_plain, _environments, drift, harness  # noqa: E402

ROWS, COLUMNS = 3_000, 24


def ours(data, **settings):
    """The contender `assay`, in this process."""
    plane, config = LocalPlane(data / "lake"), MonitoringConfig(**settings)
    return judged(Comparison(plane, config).of([_drift.watched(plane, COLUMNS)]).to_pylist(), config)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """What contenders found in 3,000 rows of 24 columns in each window."""
    folder = tmp_path_factory.mktemp("build") / "drift"
    _drift.generate_table(folder / "lake", ROWS, COLUMNS)
    (folder / "rows.json").write_text(json.dumps(ROWS))
    files = partial(_drift_plain.prepare, columns=COLUMNS)
    runs = {
        "assay": lambda _: ours(folder),
        "sketched": lambda _: ours(folder, sketch="always", sketch_points=64),
        "plain": lambda state: [
            _drift_plain._plain((state[0], name, name in state[2])) for name in state[1] + state[2]
        ],
        "scipy": partial(_drift_plain.run_scipy, share=8),
    }
    for name, run in runs.items():
        kept = drift.Kept(name, files, run)
        kept.told(kept.ran(kept.prepared(folder)))
    return folder


def test_statistics_are_scipys_and_sketched_ones_within_their_error(data):
    found = drift.differences(data, ["assay", "sketched", "plain", "scipy", "decode"])
    assert found["scipy"] < 1e-9
    assert found["plain"] < 1e-6  # its medians are NumPy's, in single precision
    assert found["sketched"] == 0
    assert max(row["error"] for row in drift._read(data, "sketched").values() if "error" in row) > 0


def test_a_wrong_figure_is_seen(data, tmp_path):
    for path in data.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    for name, added in (("scipy", 0.001), ("sketched", 0.5)):
        rows = json.loads((data / f"{name}.json").read_text())
        next(row for row in rows if "ks" in row)["ks"] += added
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    found = drift.differences(tmp_path, ["assay", "sketched", "scipy"])
    assert found["scipy"] > 1e-4
    assert found["sketched"] > 0.1


def test_decoding_reads_all_rows(data):
    assert _drift_plain.run_decode(_drift_plain.prepare(data, COLUMNS)) == 2 * ROWS


def test_data_are_what_the_docstring_says(tmp_path):
    _drift.generate_table(tmp_path, 20_000, 24, segments=50)
    windows = [pq.read_table(_drift.files(tmp_path, window), partitioning=None) for window in (0, 1)]
    assert [table.num_rows for table in windows] == [20_000, 20_000]
    for index, name in enumerate(_drift.numeric(24)):
        one, other = (table[name].drop_null().to_numpy() for table in windows)
        assert (len(one) < 20_000) == (index % 3 == 0)
        assert (stats.ks_2samp(one, other).pvalue < 1e-6) == (index % 5 == 0)
        tied = _drift.KINDS[index % 4] in {"tied", "rounded"}
        assert (len(np.unique(one)) < len(one) / 2) == tied
    shops = windows[0]["segment"].value_counts().to_pylist()
    assert len(shops) == 50
    assert max(row["counts"] for row in shops) > 2 * min(row["counts"] for row in shops)
    assert len(_drift.categorical(24)) == 2


def outcome(seconds, outputs, rows=1_000):
    return harness.Outcome(
        benchmark="drift",
        rows=rows,
        seconds=seconds,
        ratios={},
        spread=dict.fromkeys(seconds, 0.0),
        max_difference=0.0,
        peak_mb=dict.fromkeys(seconds, 1.0),
        peak_python_mb=dict.fromkeys(seconds, 7.0),
        outputs={name: outputs.get(name, {}) for name in seconds},
    )


def test_ratios_are_ours_over_theirs_for_as_many_values():
    seconds = {"assay": 4.0, "sketched": 2.0, "decode": 1.0, "plain": 8.0, "scipy": 10.0, "whylogs": 40.0}
    seconds |= {"evidently": 20.0, "segments": 30.0, "segments_tenth": 6.0}
    outputs = {
        "evidently": {"rows": 100.0},
        "segments": {"million_rows": 10.0},
        "segments_tenth": {"million_rows": 1.0},
    }
    table, summary = drift.report(outcome(seconds, outputs))
    wanted = {"decode": 4.0, "sketch_vs_decode": 2.0, "plain": 0.5, "whylogs": 0.1, "evidently": 4 / 200}
    assert summary["ratios"] == pytest.approx({**wanted, "scipy": 4 / (10 / (8 / 50))})
    assert summary["seconds_per_million_rows"] == {"segments_tenth": 6.0, "segments": 3.0}
    assert "sketch_vs_decode: 2 (floor: at most 3)" in table
    assert "Evidently took 100 of 1,000 rows" in table
    assert drift.report(outcome({"decode": 1.0}, {}))[1]["ratios"] == {}


def test_a_library_works_in_a_process_of_its_own(data, monkeypatch, tmp_path):
    """Stood in for by a script that tells what it was told."""
    script = tmp_path / "python"
    lines = [
        f"#!{sys.executable}",
        "import json, sys",
        "told = json.loads(sys.stdin.readline())",
        "print('ready', flush=True)",
        "assert sys.stdin.readline() == 'go\\n'",
        "columns = {name: (0.5, 0.1) for name in told['numeric']}",
        "print(json.dumps({'rows': min(told['rows'], told['share']), 'columns': columns}))",
    ]
    script.write_text("\n".join(lines))
    script.chmod(0o755)
    monkeypatch.setattr(drift, "python_with", {"benchmark-whylogs": script}.get)
    contender = drift.BENCHMARK.contenders["whylogs"]
    told = contender.outputs(contender.run(contender.prepare(data)))
    assert told == {"rows": float(ROWS), "columns": 46.0, "ks_gap": pytest.approx(0.5, abs=0.1)}


def test_an_environment_is_made_once_and_again_when_its_extra_changes(monkeypatch, tmp_path):
    made = []

    def run(*command):
        made.append(command)
        if "venv" in command:
            Path(command[-1], "bin").mkdir(parents=True)

    wanted = ["whylogs==1"]
    monkeypatch.setattr(_environments, "CACHE", tmp_path)
    monkeypatch.setattr(_environments, "_run", run)
    monkeypatch.setattr(_environments, "requirements", lambda _: wanted)
    first = _environments.python_with("benchmark-whylogs")
    assert first == _environments.python_with("benchmark-whylogs")
    assert len(made) == 2
    assert "whylogs==1" in made[1]
    wanted[0] = "whylogs==2"
    assert first != _environments.python_with("benchmark-whylogs")


def test_extras_of_libraries_with_other_pins_are_not_in_the_locks():
    dev = _environments.requirements("dev")
    for name in ("whylogs", "evidently"):
        (first, *_) = _environments.requirements(f"benchmark-{name}")
        assert first.startswith(name)
        assert not [one for one in dev if name in one]
        assert drift.BENCHMARK.contenders[name].extra == f"benchmark-{name}"


def test_a_contender_without_its_environment_is_left_out(monkeypatch, capsys):
    def refused(_):
        raise OSError("no index")

    monkeypatch.setattr(_environments, "python_with", refused)
    assert harness._chosen(drift.BENCHMARK, ["whylogs", "decode"]) == ["decode"]
    assert "whylogs is left out" in capsys.readouterr().err
