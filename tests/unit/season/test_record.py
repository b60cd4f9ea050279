"""Consumes a season's record, receiver and disturbances, checks that nothing is forgotten, lost, or left behind."""

import datetime as dt
import json
import socket
import urllib.error
import urllib.request

import polars as pl
import pytest

from assay.errors import UserError
from assay.season.corruption import put
from assay.season.faults import calendar_of
from assay.season.killing import make_twin, same_rows
from assay.season.receiver import listening
from assay.season.record import SAID, Record

DAY = dt.date(2025, 1, 1)
PLAYED = {"days": 30, "seed": 7}


def test_a_record_is_found_again_as_it_was(tmp_path):
    record = Record.of(tmp_path, PLAYED)
    record.finish(DAY, {"ingest": 1.5})
    record.add(DAY, "killed", job="score", died=True)
    record.add(DAY, "killed", job="score", died=True)
    again = Record.of(tmp_path, PLAYED)
    assert again.finished(DAY)
    assert not again.finished(DAY + dt.timedelta(days=1))
    assert again.events == [{"day": "2025-01-01", "event": "killed", "job": "score", "died": True}]
    assert again.event("killed", DAY, job="score") == again.events[0]
    assert again.event("killed", DAY, job="ingest") is None


def test_another_season_and_somebody_elses_tables_are_left_alone(tmp_path):
    Record.of(tmp_path / "one", PLAYED)
    with pytest.raises(UserError, match=r"another season is there \(seed 7\); choose another folder"):
        Record.of(tmp_path / "one", {**PLAYED, "seed": 8})
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "assay.json").write_text("{}")
    with pytest.raises(UserError, match="needs its own folder"):
        Record.of(tmp_path / "two", PLAYED)


def test_what_was_said_on_a_day_is_kept_by_day(tmp_path):
    record = Record.of(tmp_path, PLAYED)
    row = dict.fromkeys(SAID, 1.0) | {"entity": "e1", "model_version": "m", "row_id": 5, "more": 1}
    assert record.said([DAY]).is_empty()
    record.keep_said(DAY, pl.DataFrame([row]))
    record.keep_said(DAY, pl.DataFrame([{**row, "prediction": 2.0}]))  # the day was played again
    found = record.said([DAY, DAY + dt.timedelta(days=1)])
    assert found.select("row_id", "prediction", "day").rows() == [(5, 2.0, DAY)]


def post(address, *ids, timeout=5.0):
    content = json.dumps({"alerts": [{"id": one} for one in ids]}).encode()
    with urllib.request.urlopen(urllib.request.Request(address, content), timeout=timeout) as answer:
        return answer.status


def test_a_receiver_takes_hangs_refuses_and_comes_back_at_the_same_place(tmp_path):
    taken = tmp_path / "taken.txt"
    with listening(taken) as receiver:
        address = receiver.address
        assert post(address, "a", "b") == 200
        receiver.set("hanging")
        with pytest.raises(TimeoutError):
            post(address, "c", timeout=0.2)
        receiver.set("refusing")
        with pytest.raises(urllib.error.URLError, match="refused"):
            post(address, "d")
        receiver.set("up")
        assert receiver.address == address
        assert post(address, "e") == 200
    assert taken.read_text().split() == ["a", "b", "e"]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(address.split(":")[2].split("/")[0]))) != 0


def test_a_byte_is_changed_and_put_back(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    put(path, 1, ord("b") ^ 1)
    assert path.read_bytes() == b"acc"
    put(path, 1, ord("b"))
    assert path.read_bytes() == b"abc"


def test_a_twin_has_the_same_rows_until_one_of_them_changes(tmp_path):
    from deltalake import write_deltalake

    workspace, twin = tmp_path / "workspace", tmp_path / "workspace" / "season" / "twin"
    rows = pl.DataFrame({"a": [2, 1], "b": ["x", None]})
    write_deltalake(workspace / "lake" / "t", rows.to_arrow())
    (workspace / "mlflow.db").write_text("store")
    make_twin(workspace, twin)
    assert same_rows(workspace, twin, ["t"])
    write_deltalake(twin / "lake" / "t", rows.reverse().to_arrow(), mode="overwrite")
    assert same_rows(workspace, twin, ["t"])
    write_deltalake(workspace / "lake" / "t", rows.to_arrow(), mode="append")
    assert not same_rows(workspace, twin, ["t"])
    assert not (twin / "mlflow.db").samefile(workspace / "mlflow.db")
    make_twin(workspace, twin)
    assert same_rows(workspace, twin, ["t"])


def test_the_bad_challenger_began_when_it_was_registered(tmp_path):
    record, calendar = Record.of(tmp_path, {"days": 30}), calendar_of(30, 7, {"deploy"})
    assert record.calendar(calendar) is calendar
    later = calendar.fault("bad_challenger").first + dt.timedelta(days=3)
    record.add(later, "challenger", number="2", model_version="m")
    assert record.calendar(calendar).fault("bad_challenger").first == later
    assert record.calendar(calendar).fault("killed_score") == calendar.fault("killed_score")
