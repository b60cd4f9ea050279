"""Consumes a master and a settings file, produces JSON: what trainings on two executors come to.

Of boosted trees, by either road, and of a recurrent network, where PyTorch is installed, one training is left alone and
one loses an executor on its way. One cannot read its rows.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from assay.model.encoding import Encoding
from assay.model.scale import TargetScale
from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.session import SparkSettings, open_session
from assay.runtime.spark_plane import SparkPlane
from assay.training.engine import FitRequest, engine_named

ROUNDS, EVERY, KILL_AT, ROWS, COLUMNS = 12, 4, 5, 5_000, 6
LAGS = [f"y__own__lag_{lag}" for lag in range(1, COLUMNS + 1)]
SCHEMA = pa.schema([("row_id", pa.int64()), *((name, pa.float32()) for name in LAGS), ("y", pa.float64())])
PARAMS = {
    "xgboost": {"max_depth": 2, "subsample": 0.7, "eta": 0.1},
    "gru": {"lookback": COLUMNS, "hidden": 6, "dropout": 0.2, "learning_rate": 0.01},
}


def invent(parts):
    """Rows of a seed; a text is noted in a file, and cannot be read."""
    for part in parts:
        if isinstance(part, str):
            with open(part, "a", encoding="utf-8") as notes:
                notes.write("tried\n")
            raise ValueError("these rows cannot be read")
        random = np.random.default_rng(part)
        x = random.normal(size=(COLUMNS, ROWS)).astype(np.float32)
        y = x[0] + np.sin(3 * x[1]) + x[2] * x[3] + random.normal(size=ROWS)
        rows = pa.array(np.arange(ROWS) + part * ROWS)
        yield pa.record_batch([rows, *(pa.array(column) for column in x), pa.array(y)], schema=SCHEMA)


def executor(application):
    """One that works for the application; on a cluster of one machine its Java can be seen from here."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if any("CoarseGrainedExecutorBackend" in word for word in line) and application in line:
            return process
    raise LookupError("there is no executor")


def train(plane, parts, *, engine="xgboost", victim=None):
    """Fit with early stopping and refit; the executor `victim` is killed after a while."""
    heard, lost, lock = [], [], threading.Lock()

    def on_round(number, _):
        with lock:
            heard.append(number)
            if victim is not None and number == KILL_AT and not lost:
                lost.append(number)
                victim.kill()

    started = time.monotonic()
    fitted = engine_named(engine).fit(
        plane,
        FitRequest(
            train=plane.inputs(parts, invent, SCHEMA),
            tune=plane.inputs([3, 4], invent, SCHEMA),
            encoding=Encoding(tuple(LAGS), {}),
            scale=TargetScale("y"),
            params=PARAMS[engine],
            rounds=ROUNDS,
            early_stopping_rounds=6,
            refit=True,
            seed=7,
            ranks=2,
            threads=1,
            driver_host="127.0.0.1",
            checkpoint_rounds=EVERY,
        ),
        on_round,
    )
    return {
        "model": hashlib.sha256(fitted.stored).hexdigest(),
        "rounds": fitted.rounds,
        "history": fitted.history,
        "heard": heard,
        "lost": lost,
        "seconds": time.monotonic() - started,
    }


if __name__ == "__main__":
    master, conf_file, folder = sys.argv[1:4]
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules["__main__"])
    session = open_session(SparkSettings(master, Path(conf_file)), app="train", log_file=Path(folder) / "train.log")
    lake = Path(folder) / "lake"
    arrow, spark = ArrowPlane(lambda: session.sparkContext, lake), SparkPlane(lambda: session, lake.as_uri())
    found = {}
    networks = [("gru", arrow)] if importlib.util.find_spec("torch") else []
    for engine, plane in [("xgboost", arrow), ("xgboost", spark), *networks]:
        alone = train(plane, [1, 2], engine=engine)
        disturbed = train(plane, [1, 2], engine=engine, victim=executor(session.sparkContext.applicationId))
        found[f"{engine} {plane.road}"] = {"alone": alone, "disturbed": disturbed}
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as notes:
        try:
            train(arrow, [1, notes.name])
        except Exception as error:
            found["unreadable"] = {"error": str(error), "tried": len(notes.read().splitlines())}
    print(json.dumps(found), flush=True)
    session.stop()
