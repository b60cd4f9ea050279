"""Consumes Parquet files of two windows, produces what whylogs or Evidently tells of them, by a Python of its own.

`python _drift_libraries.py NAME`: a line of JSON with what to read comes in, `ready` goes out once libraries are
imported; another line comes in, and a line of JSON with figures goes out.

whylogs profiles file by file in as many processes as there are cores, merges the profiles and scores their drift (KS of
numbers, chi-square of categories), from sketches. Evidently gets data frames of the first rows of each window, and is
asked for each column's KS test, or chi-square, and for nothing else of what it knows.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from typing import Any

import pandas as pd
import pyarrow.parquet as pq


def _frame(path: str, names: list[str], rows: int | None = None) -> pd.DataFrame:
    table = pq.read_table(path, columns=names, partitioning=None)
    return table.slice(0, rows).to_pandas()


def _profile(work: tuple[str, list[str]]) -> bytes:
    import whylogs

    found: bytes = whylogs.log(pandas=_frame(*work)).view().serialize()
    return found


def whylogs_drift(told: dict[str, Any]) -> dict[str, Any]:
    """Statistics and p-values by column, of all rows."""
    from whylogs.core.view.dataset_profile_view import DatasetProfileView
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    names = [*told["numeric"], *told["categorical"]]
    work = [(path, names) for window in told["files"] for path in window]
    with multiprocessing.Pool(told["processes"]) as pool:
        views = iter([DatasetProfileView.deserialize(found) for found in pool.imap(_profile, work)])
    merged = []
    for window in told["files"]:
        first, *others = [next(views) for _ in window]
        for one in others:
            first = first.merge(one)
        merged.append(first)
    scores = calculate_drift_scores(target_view=merged[1], reference_view=merged[0], with_thresholds=True)
    found = {name: (score["statistic"], score["pvalue"]) for name, score in scores.items() if score}
    return {"rows": told["rows"], "columns": found}


def evidently_drift(told: dict[str, Any]) -> dict[str, Any]:
    """P-values by column, of the first rows of each window."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    rows, names = told["share"], [*told["numeric"], *told["categorical"]]
    schema = DataDefinition(numerical_columns=told["numeric"], categorical_columns=told["categorical"])
    windows = []
    for files in told["files"]:
        parts, held = [], 0
        for path in files:
            parts.append(_frame(path, names, rows - held))
            held += len(parts[-1])
            if held >= rows:
                break
        windows.append(Dataset.from_pandas(pd.concat(parts), data_definition=schema))
    report = Report([DataDriftPreset(num_method="ks", cat_method="chisquare")])
    metrics = report.run(windows[1], windows[0]).dict()["metrics"]
    found = {m["config"]["column"]: (None, float(m["value"])) for m in metrics if "column" in m.get("config", {})}
    return {"rows": min(rows, told["rows"]), "columns": found}


def main() -> None:
    """Get ready, wait, work, tell."""
    name, told = sys.argv[1], json.loads(sys.stdin.readline())
    out, sys.stdout = sys.stdout, sys.stderr
    if name == "whylogs":
        import whylogs  # noqa: F401
        from whylogs.viz.drift import column_drift_algorithms  # noqa: F401
    else:
        from evidently import presets  # noqa: F401
    print("ready", file=out, flush=True)
    sys.stdin.readline()
    found = whylogs_drift(told) if name == "whylogs" else evidently_drift(told)
    print(json.dumps(found), file=out, flush=True)


if __name__ == "__main__":
    main()
