"""Consumes a benchmark's name, produces its figures: `benchmark NAME [--rows N] [--repeats R] [--json]`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from benchmarks.harness import Benchmark, run, with_growth

NAMES = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_") and p.stem != "harness")


def load(name: str) -> Benchmark:
    """The benchmark that a module of this folder declares."""
    benchmark: Benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    return benchmark


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="assay benchmark", description="Contenders on the same data, interleaved.")
    parser.add_argument("name", choices=NAMES, help="what to measure")
    parser.add_argument("--rows", type=int, help="rows of the data; each benchmark has its own default")
    parser.add_argument("--repeats", type=int, help="runs of each contender (default 3, of slow benchmarks 1)")
    parser.add_argument(
        "--only",
        action="append",
        help="run only these contenders, a name or a pattern such as 'kc_house:*'; may be repeated",
    )
    parser.add_argument("--growth", action="store_true", help="run a tenth of the rows too: what a row costs at each")
    parser.add_argument("--json", action="store_true", help="make the last line of standard output one JSON object")
    options = parser.parse_args()
    benchmark = load(options.name)
    rows, repeats = options.rows or benchmark.rows, options.repeats or benchmark.repeats
    small = run(benchmark, rows=rows // 10, repeats=repeats, only=options.only) if options.growth else None
    result = run(benchmark, rows=rows, repeats=repeats, only=options.only)
    result = with_growth(small, result) if small is not None else result
    table, summary = benchmark.report(result) if benchmark.report is not None else (result.table(), {})
    print(table)
    if not result.agrees:
        print(f"results differ by more than {result.tolerance:g}", file=sys.stderr)
    if options.json:
        print(json.dumps({**result.as_dict(), **summary}))
    return 0 if result.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
