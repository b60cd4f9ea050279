"""Consumes errors as they are raised and as Spark hands them on, checks exit codes and what is left of the words."""

import pytest

from assay import errors

PYTHON_WORKER = """An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 3.0 failed 1 times, most recent
failure: Lost task 0.0 in stage 3.0 (TID 7): org.apache.spark.api.python.PythonException: Traceback (most recent call
  File "/opt/assay/ingest/csv_rows.py", line 88, in read_csv
    raise _unreadable(file, error, source) from None
{}

\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:572)
"""


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.AssayError, 1),
        (errors.UserError, 2),
        (errors.ConfigError, 2),
        (errors.DataError, 2),
        (errors.PreflightError, 2),
        (errors.GateRefused, 3),
    ],
)
def test_exit_codes(kind, code):
    assert kind("x").exit_code == code


def test_an_error_of_ours_comes_back_from_a_worker_as_what_it_was():
    told = "/data/a b.csv: the text is not utf-8; set dataset.source.encoding"
    found = errors.from_worker(RuntimeError(PYTHON_WORKER.format(f"assay.errors.DataError: {told}")))
    assert type(found) is errors.DataError
    assert str(found) == told


@pytest.mark.parametrize("last", ["ValueError: no", "assay.errors.Unknown: x", "assay.errors.re: x", "my.errors.X: y"])
def test_other_errors_stay_failures_of_ours(last):
    assert errors.from_worker(RuntimeError(PYTHON_WORKER.format(last))) is None
    assert errors.from_worker(ValueError("")) is None
