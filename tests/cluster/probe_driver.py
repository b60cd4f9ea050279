"""Consumes a master and a settings file, produces JSON: what a barrier task on each executor sees."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.session import SparkSettings, open_session


def look(context, shares):
    import os
    from importlib.machinery import PathFinder

    import assay

    # A folder without code, such as the configuration that an editable install keeps there, is no package.
    elsewhere = PathFinder.find_spec("assay", [p for p in sys.path if not p.endswith(".zip")])
    rows = [sum(batch.num_rows for batch in share()) for share in shares]
    return {
        "rank": context.rank,
        "gpus": list(context.gpus),
        "code": assay.__file__,
        "elsewhere": elsewhere is not None and elsewhere.origin is not None,
        "pid": os.getpid(),
        "everyone": context.gather(f"rank {context.rank}"),
        "rows": rows,
    }


if __name__ == "__main__":
    master, conf_file, folder = sys.argv[1:4]
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules["__main__"])
    session = open_session(
        SparkSettings(master, Path(conf_file)), app="probe", log_file=Path(folder) / "logs" / "spark.log"
    )
    plane = ArrowPlane(lambda: session.sparkContext, Path(folder) / "lake")
    reads = []
    if plane.version("features") is not None:
        reads = [plane.read("features", version=plane.version("features"), columns=["row_id"])]
    print(json.dumps(plane.train(reads, look, 2)), flush=True)
    session.stop()
