"""Consumes MLflow stores, good and broken ones, checks what a doctor says of them."""

import contextlib
import http.server
import os
import socket
import sqlite3
import threading
import time

import pytest

from assay.config import load_run
from assay.doctor import store


def config_of(flats, workspace, *overrides):
    return load_run(dataset=flats, workspace=workspace, overrides=overrides)


def test_a_store_that_is_not_there_yet_is_not_made(flats, tmp_path):
    (found,) = store.store(config_of(flats, tmp_path), "local[2]")
    assert (found.status, "the first job makes it" in found.told) == ("ok", True)
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_can_be_used(flats, workspace):
    (found,) = store.store(config_of(flats, workspace), "local[2]")
    assert found.status == "ok"
    assert "1 experiment(s), no runs yet" in found.told


def test_sqlite_does_not_serve_a_cluster(flats, workspace):
    (found,) = store.store(config_of(flats, workspace), "spark://head:7077")
    assert (found.status, "SQLite, which serves one host only" in found.told) == ("fail", True)
    assert "runtime.tracking_uri" in found.todo


def test_a_store_of_another_schema(workspace):
    with contextlib.closing(sqlite3.connect(workspace / "mlflow.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")  # of no MLflow yet
        database.commit()
    found = store.of_uri(f"sqlite:///{workspace / 'mlflow.db'}")
    assert (found.status, "was made by another version of MLflow" in found.told) == ("fail", True)
    assert "mlflow db upgrade" in found.todo


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    found = store.of_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert (found.status, "is no SQLite database" in found.told) == ("fail", True)


def test_a_store_that_another_process_writes(workspace):
    with contextlib.closing(sqlite3.connect(workspace / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        found = store.of_uri(f"sqlite:///{workspace / 'mlflow.db'}")
    assert (found.status, "another process is writing" in found.told) == ("warn", True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_may_only_be_read(workspace):
    (workspace / "mlflow.db").chmod(0o400)
    found = store.of_uri(f"sqlite:///{workspace / 'mlflow.db'}")
    assert (found.status, "cannot be written" in found.told) == ("fail", True)


def test_a_server_that_is_not_there_is_told_at_once():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    found = store.of_uri(f"http://someone:hunter2-Tr0ub4dor@127.0.0.1:{port}")
    assert time.monotonic() - started < 10
    assert (found.status, "cannot be reached" in found.told) == ("fail", True)
    assert "hunter2" not in str(found)


def test_a_server_that_fails():
    class Failing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(500 if self.path == "/health" else 404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = store.of_uri(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert (found.status, "answers with status 500" in found.told) == ("fail", True)
