"""Consumes contenders and a size, produces medians, ratios, spread, output differences and peak memory of each.

Every run is a process of its own, contenders take turns, and only `run` is timed: imports, JVM start and data
generation are not. Memory is the largest proportional set size of the process and all its children during `run`, and of
those alone that are not Java.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import importlib.util
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

OURS = "assay"
CACHE = Path(__file__).resolve().parents[2] / "build" / "benchmarks"
SAMPLE_SECONDS = 0.25


@dataclasses.dataclass(frozen=True)
class Contender:
    """prepare(data) gets ready, untimed; run(state) does the work, timed; outputs(result) is what is compared.

    against: the contender whose time is divided by this one's. needs: a module without which it is left out.
    extra: of pyproject.toml, with libraries for an environment of their own, without which it is left out.
    """

    prepare: Callable[[Path], Any]
    run: Callable[[Any], Any]
    outputs: Callable[[Any], Mapping[str, float]]
    against: str = OURS
    needs: str | None = None
    extra: str | None = None


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """name; rows: default size; generate(folder, rows) makes the data once; contenders: ours is called `assay`.

    data: name of the data, where benchmarks share them; None for the benchmark's own.
    differences(data, names): what contenders left on disk compared with ours, where figures of `outputs` do not say it.
    tolerance: largest difference that counts as the same result; None where results only resemble each other.
    report: what is told in place of the usual table, and more of the JSON, where results are meant to differ.
    repeats: default number of runs.
    """

    name: str
    rows: int
    generate: Callable[[Path, int], None]
    contenders: Mapping[str, Contender]
    data: str | None = None
    differences: Callable[[Path, Sequence[str]], Mapping[str, float]] | None = None
    tolerance: float | None = None
    report: Callable[[Outcome], tuple[str, Mapping[str, Any]]] | None = None
    repeats: int = 3


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The figures of one benchmark."""

    benchmark: str
    rows: int
    seconds: dict[str, float]
    ratios: dict[str, float]
    spread: dict[str, float]
    max_difference: float
    peak_mb: dict[str, float]
    peak_python_mb: dict[str, float]
    outputs: dict[str, dict[str, float]]
    differences: dict[str, float] = dataclasses.field(default_factory=dict)
    tolerance: float | None = None
    per_row_growth: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether all contenders came to the same result."""
        return self.tolerance is None or self.max_difference <= self.tolerance

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return dataclasses.asdict(self)

    def table(self) -> str:
        """For people."""
        lines = [f"{self.benchmark}, {self.rows:,} rows; outputs differ by at most {self.max_difference:.3g}"]
        for name, seconds in self.seconds.items():
            ratio = f"  ours takes {self.ratios[name]:.2f} of it" if name in self.ratios else ""
            if name in self.differences:
                ratio += f"  differs by {self.differences[name]:.1e}"
            if name in self.per_row_growth:
                ratio += f"  a row costs {self.per_row_growth[name]:.2f} of one at a tenth of the rows"
            figures = ", ".join(f"{k} {v:.6g}" for k, v in self.outputs[name].items())
            lines.append(
                f"  {name:16s} {seconds:8.2f} s  +-{self.spread[name]:5.1%}  {self.peak_mb[name]:8,.0f} MB "
                f"({self.peak_python_mb[name]:,.0f} without Java)  "
                f"{figures}{ratio}"
            )
        return "\n".join(lines)


def run(benchmark: Benchmark, *, rows: int, repeats: int, only: Sequence[str] | None = None) -> Outcome:
    """Run all contenders `repeats` times, taking turns."""
    data = CACHE / f"{benchmark.data or benchmark.name}-{rows}"
    if not (data / "_READY").exists():
        print(f"generating {rows:,} rows ...", file=sys.stderr)
        data.mkdir(parents=True, exist_ok=True)
        benchmark.generate(data, rows)
        (data / "_READY").touch()
    names = _chosen(benchmark, only or ())
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(repeats):
        for name in names:
            found = _in_its_own_process(benchmark.name, name, data)
            print(
                f"  {turn + 1}/{repeats} {name}: {found['seconds']:.2f} s, {found['peak_mb']:,.0f} MB", file=sys.stderr
            )
            results[name].append(found)
    seconds = {n: statistics.median(r["seconds"] for r in results[n]) for n in names}
    outputs = {n: dict(results[n][0]["outputs"]) for n in names}
    against = {n: benchmark.contenders[n].against for n in names}
    found = dict(benchmark.differences(data, names)) if benchmark.differences is not None else {}
    return Outcome(
        benchmark=benchmark.name,
        rows=rows,
        seconds=seconds,
        ratios={n: seconds[against[n]] / s for n, s in seconds.items() if n != against[n] and against[n] in seconds},
        spread={n: _spread([r["seconds"] for r in results[n]]) for n in names},
        max_difference=max([_max_difference(outputs) if benchmark.report is None else 0.0, *found.values()]),
        peak_mb={n: max(r["peak_mb"] for r in results[n]) for n in names},
        peak_python_mb={n: max(r["peak_python_mb"] for r in results[n]) for n in names},
        outputs=outputs,
        differences=found,
        tolerance=benchmark.tolerance,
    )


def _chosen(benchmark: Benchmark, only: Sequence[str]) -> list[str]:
    """Contenders to run, those whose libraries are not installed left out. only: names or patterns (`kc_house:*`)."""
    unknown = [pattern for pattern in only if not fnmatch.filter(benchmark.contenders, pattern)]
    if unknown:
        raise SystemExit(f"--only {unknown[0]}: choose among {', '.join(benchmark.contenders)}")
    names = []
    for name, contender in benchmark.contenders.items():
        if only and not any(fnmatch.fnmatchcase(name, pattern) for pattern in only):
            continue
        if contender.needs is not None and importlib.util.find_spec(contender.needs) is None:
            print(
                f"  {name} is left out: it needs {contender.needs} (pip install 'assay[benchmarks]')", file=sys.stderr
            )
            continue
        if contender.extra is not None and not _has_environment(contender.extra):
            print(f"  {name} is left out: the extra {contender.extra} could not be installed", file=sys.stderr)
            continue
        names.append(name)
    return names


def _has_environment(extra: str) -> bool:
    from benchmarks._environments import python_with

    try:
        return python_with(extra).exists()
    except (OSError, subprocess.CalledProcessError):
        return False


def with_growth(small: Outcome, large: Outcome) -> Outcome:
    """The large outcome, and what a row of it costs over what a row of the small one does."""
    growth = {
        name: (seconds / large.rows) / (small.seconds[name] / small.rows) for name, seconds in large.seconds.items()
    }
    return dataclasses.replace(large, per_row_growth=growth)


def _spread(values: list[float]) -> float:
    """Half the range over the median: what the machine's noise does."""
    return (max(values) - min(values)) / 2 / statistics.median(values)


def _max_difference(outputs: Mapping[str, Mapping[str, float]]) -> float:
    """Largest relative difference of any output from the first contender's."""
    first, *others = outputs.values()
    gaps = [abs(o[k] - v) / max(abs(v), 1e-12) for o in others for k, v in first.items() if k in o]
    return max(gaps, default=0.0)


def _in_its_own_process(benchmark: str, contender: str, data: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.harness", benchmark, contender, str(data)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"benchmark {benchmark}: contender {contender} failed with exit code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _one(benchmark: str, contender: str, data: Path) -> dict[str, Any]:
    chosen: Contender = importlib.import_module(f"benchmarks.{benchmark}").BENCHMARK.contenders[contender]
    state = chosen.prepare(data)
    peak, stop = [0.0, 0.0], threading.Event()
    sampler = threading.Thread(target=_sample, args=(peak, stop), daemon=True)
    sampler.start()
    started = time.perf_counter()
    result = chosen.run(state)
    seconds = time.perf_counter() - started
    stop.set()
    sampler.join()
    return {"seconds": seconds, "peak_mb": peak[0], "peak_python_mb": peak[1], "outputs": dict(chosen.outputs(result))}


def _sample(peak: list[float], stop: threading.Event) -> None:
    me = psutil.Process()
    while True:
        total = python = 0.0
        for process in [me, *me.children(recursive=True)]:
            try:
                size = process.memory_full_info().pss
                total += size
                python += 0.0 if process.name() == "java" else size
            except (psutil.Error, AttributeError):
                continue
        peak[:] = max(peak[0], total / 1e6), max(peak[1], python / 1e6)
        if stop.wait(SAMPLE_SECONDS):
            return


if __name__ == "__main__":
    print(json.dumps(_one(sys.argv[1], sys.argv[2], Path(sys.argv[3]))), flush=True)
