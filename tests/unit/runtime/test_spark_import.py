"""Consumes two threads that need PySpark at once, checks that each gets all of it."""

from __future__ import annotations

import subprocess
import sys

# The other thread is held up between the two halves of the import, where the first one meets it.
TOGETHER = """
import sys, threading, time
from assay.runtime import session

def slow(event, told):
    if event == "import" and told[0] == "pyspark.sql" and threading.current_thread() is other:
        begun.set()
        time.sleep(0.5)

begun, found = threading.Event(), []
other = threading.Thread(target=lambda: found.append({other}))
sys.addaudithook(slow)
other.start()
begun.wait(20)
found.append(session.session_is_given())
other.join()
assert len(found) == 2, found
print(found)
"""


def together(other):
    done = subprocess.run(
        [sys.executable, "-c", TOGETHER.replace("{other}", other)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_two_threads_that_need_spark_each_get_all_of_it():
    code, said, error = together("session.import_spark()")
    assert code == 0, error
    assert "False" in said


def test_without_waiting_for_one_another_they_would_not():
    """What `import_spark` is for: if this stops failing, PySpark no longer needs it."""
    code, _, error = together("__import__('pyspark')")
    assert code != 0
    assert "partially initialized module" in error
