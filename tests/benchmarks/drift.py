"""Consumes two windows of a Delta table, compares ways to say how far apart they are, column by column.

`assay`: all statistics of the job `monitor`, exact; `sketched`: the same by `monitoring.sketch=always`. `decode` merely
reads the same columns, `plain` is a script of NumPy and SciPy with as many processes, `scipy` SciPy's own functions on
a share of the columns, `whylogs` its profiles of both windows and their drift scores, `evidently` its KS and chi-square
tests of the first rows of each window as data frames. Statistics must be SciPy's, sketched ones within their error.

`segments` and `segments_tenth`: 200 columns in 1,000 segments, exact, of as many rows and of a tenth: what a row costs
must not grow, nor memory without bound.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import _drift, _drift_plain
from benchmarks._environments import python_with
from benchmarks._session import CORES, open_warm
from benchmarks.harness import OURS, Benchmark, Contender, Outcome

COLUMNS = 50
SCIPY_COLUMNS = 4  # one of each kind
EVIDENTLY_ROWS = 200_000  # of each window
SEGMENT_COLUMNS, SEGMENTS = 200, 1_000
FIGURES = ("ks", "ks_p", "wasserstein", "median_reference", "median_current", "psi", "chi2", "chi2_p")
FLOORS = {"decode": 8, "sketch_vs_decode": 3, "whylogs": 1 / 3, "evidently": 1 / 50}


def generate(folder: Path, rows: int) -> None:
    """The table without segments; that with segments is made when it is asked for."""
    _drift.generate_table(folder / "lake", rows, COLUMNS)
    (folder / "rows.json").write_text(json.dumps(rows))


def _rows(data: Path) -> int:
    return int(json.loads((data / "rows.json").read_text()))


def prepare_ours(data: Path, sketch: str) -> Any:
    """Start Spark, import what is needed."""
    return open_warm(_import_ours), data / "lake", COLUMNS, {"sketch": sketch}


def prepare_segments(data: Path, share: int) -> Any:
    """The same, and the table with segments of a share of the rows."""
    rows = _rows(data) // share
    lake = data / f"segments-{rows}"
    if not (lake / "_READY").exists():
        _drift.generate_table(lake, rows, SEGMENT_COLUMNS, SEGMENTS)
        (lake / "_READY").touch()
    return open_warm(_import_ours), lake, SEGMENT_COLUMNS, {"by": ("segment",)}


def _import_ours(_: int) -> str:
    import deltalake  # noqa: F401
    import polars  # noqa: F401
    import scipy.stats  # noqa: F401

    from assay.monitoring import comparison, drift
    from assay.runtime import arrow_plane

    return f"{arrow_plane.__name__} {comparison.__name__} {drift.__name__}"


def run_ours(state: Any) -> list[dict[str, Any]]:
    """All statistics and tests of all columns, as the job has them before it writes them."""
    from assay.config.monitoring import MonitoringConfig
    from assay.monitoring.comparison import Comparison
    from assay.monitoring.drift import judged
    from assay.runtime.arrow_plane import ArrowPlane

    session, lake, columns, settings = state
    config = MonitoringConfig(**settings)
    plane = ArrowPlane(lambda: session.sparkContext, lake)
    watched = _drift.watched(plane, columns)
    return judged(Comparison(plane, config, config.by).of([watched]).to_pylist(), config)


def prepare_library(data: Path, name: str) -> Any:
    """Start a Python of its own, wait until it has imported what it needs."""
    windows, numbers, texts = _drift_plain.prepare(data, COLUMNS)
    told = {"files": windows, "numeric": numbers, "categorical": texts, "processes": CORES}
    told |= {"rows": _rows(data), "share": EVIDENTLY_ROWS}
    script = Path(__file__).with_name("_drift_libraries.py")
    process = subprocess.Popen(
        [python_with(f"benchmark-{name}"), script, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    _say(process, json.dumps(told))
    _hear(process)
    return process


def run_library(process: Any) -> Any:
    """Let it work."""
    _say(process, "go")
    found = json.loads(_hear(process))
    process.wait()
    return found


def _say(process: Any, line: str) -> None:
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _hear(process: Any) -> str:
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args[-1]} ended with exit code {process.wait()}")
    return str(line)


@dataclasses.dataclass(frozen=True)
class Kept:
    """A contender whose rows stay on disk, where `differences` finds them."""

    name: str
    prepare: Callable[[Path], Any]
    run: Callable[[Any], list[dict[str, Any]]]

    def prepared(self, data: Path) -> Any:
        """Where the data are, too."""
        return data, self.prepare(data)

    def ran(self, state: Any) -> Any:
        """Where the data are, too."""
        data, inner = state
        return data, self.run(inner)

    def told(self, result: Any) -> Mapping[str, float]:
        """Columns, their mean KS; of sketched ones the largest error that is stated, and that there is."""
        data, rows = result
        (data / f"{self.name}.json").write_text(json.dumps([_plain_row(row) for row in rows]))
        known = [row["ks"] for row in rows if row.get("ks") is not None]
        figures = {"columns": float(len(rows)), "ks": sum(known) / len(known)}
        error = max(row.get("error") or 0.0 for row in rows)
        return figures | ({"error": error, **_ks_gap(data, rows)} if error else {})

    def contender(self, **more: Any) -> Contender:
        """For the harness."""
        return Contender(self.prepared, self.ran, more.pop("outputs", self.told), **more)


def _plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("column", "error", *FIGURES) if row.get(name) is not None}


def _ks_gap(data: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Largest difference of any column's KS from the exact one, where ours has run."""
    exact = _read(data, OURS)
    gaps = [abs(row["ks"] - exact[row["column"]]["ks"]) for row in rows if "ks" in exact.get(row["column"], {})]
    return {"ks_gap": max(gaps)} if gaps else {}


def _read(data: Path, name: str) -> dict[str, dict[str, Any]]:
    path = data / f"{name}.json"
    return {row["column"]: row for row in json.loads(path.read_text())} if path.is_file() else {}


def outputs_library(result: tuple[Path, dict[str, Any]]) -> Mapping[str, float]:
    """Rows of a window and columns that it told of."""
    data, found = result
    ks = [{"column": name, "ks": told[0]} for name, told in found["columns"].items() if told[0] is not None]
    return {"rows": float(found["rows"]), "columns": float(len(found["columns"])), **_ks_gap(data, ks)}


def outputs_segments(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, float]:
    """Columns and segments that were compared; rows of both windows, in millions."""
    whole = next(row for row in rows if not row["segment"])
    millions = (whole["rows_reference"] + whole["rows_current"]) / 1e6
    return {"compared": float(len(rows)), "million_rows": millions}


def differences(data: Path, names: Sequence[str]) -> Mapping[str, float]:
    """Largest relative difference of any figure from ours; of sketched ones, of KS, what exceeds its stated error."""
    ours, found = _read(data, OURS), {}
    for name in set(names) & {"plain", "scipy"} if OURS in names else ():
        pairs = [
            (row[figure], ours[column][figure])
            for column, row in _read(data, name).items()
            for figure in FIGURES
            if figure in row
        ]
        found[name] = max(abs(one - other) / max(abs(other), 1e-12) for one, other in pairs)
    if {OURS, "sketched"} <= set(names):
        rows = [(row, ours[column]) for column, row in _read(data, "sketched").items() if "ks" in row]
        found["sketched"] = max(max(0.0, abs(row["ks"] - exact["ks"]) - row["error"]) for row, exact in rows)
    return found


def report(outcome: Outcome) -> tuple[str, Mapping[str, Any]]:
    """The usual table, then our time by theirs for the same values, and what a row costs with segments."""
    seconds, told, lines = outcome.seconds, outcome.outputs, [outcome.table()]
    ratios: dict[str, float] = {}
    if OURS in seconds:
        for name in {"decode", "plain", "whylogs"} & set(seconds):
            ratios[name] = seconds[OURS] / seconds[name]
        shares = {"evidently": lambda: told["evidently"]["rows"] / outcome.rows, "scipy": _scipy_share}
        for name in set(shares) & set(seconds):
            ratios[name] = seconds[OURS] / (seconds[name] / shares[name]())
    if {"sketched", "decode"} <= set(seconds):
        ratios["sketch_vs_decode"] = seconds["sketched"] / seconds["decode"]
    for name in sorted(ratios):
        floor = f" (floor: at most {FLOORS[name]:.3g})" if name in FLOORS else ""
        what = "" if name == "sketch_vs_decode" else "ours takes, of its time, "
        lines.append(f"{name}: {what}{ratios[name]:.3g}{floor}")
    if "evidently" in told:
        lines.append(f"Evidently took {told['evidently']['rows']:,.0f} of {outcome.rows:,} rows; its time is scaled up")
    million = {
        name: seconds[name] / told[name]["million_rows"] for name in ("segments_tenth", "segments") if name in seconds
    }
    for name, cost in million.items():
        lines.append(f"{name}: {cost:.2f} s and at most {outcome.peak_python_mb[name]:,.0f} MB without Java")
    return "\n".join(lines), {"ratios": ratios, "seconds_per_million_rows": million}


def _scipy_share() -> float:
    return (SCIPY_COLUMNS + len(_drift.categorical(COLUMNS))) / COLUMNS


_files = partial(_drift_plain.prepare, columns=COLUMNS)
BENCHMARK = Benchmark(
    name="drift",
    rows=5_000_000,
    generate=generate,
    contenders={
        OURS: Kept(OURS, partial(prepare_ours, sketch="never"), run_ours).contender(),
        "sketched": Kept("sketched", partial(prepare_ours, sketch="always"), run_ours).contender(),
        "decode": Contender(_files, _drift_plain.run_decode, lambda rows: {"rows": float(rows)}),
        "plain": Kept("plain", _files, _drift_plain.run_plain).contender(),
        "scipy": Kept("scipy", _files, partial(_drift_plain.run_scipy, share=SCIPY_COLUMNS)).contender(),
        **{
            name: Kept(name, partial(prepare_library, name=name), run_library).contender(
                outputs=outputs_library, extra=f"benchmark-{name}"
            )
            for name in ("whylogs", "evidently")
        },
        **{
            name: Contender(partial(prepare_segments, share=share), run_ours, outputs_segments, against="segments")
            for name, share in (("segments", 1), ("segments_tenth", 10))
        },
    },
    differences=differences,
    tolerance=1e-6,
    report=report,
    repeats=1,
)
