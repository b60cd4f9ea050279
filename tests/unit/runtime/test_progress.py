"""Consumes steps of a job, checks what a person sees on a terminal, in a log, and what standard output is spared."""

from __future__ import annotations

import os
import pty
import re
import sys
import threading

import pytest

from assay.runtime.progress import Reporter, figure


class Terminal:
    """A pseudo-terminal in the place of standard error."""

    def __init__(self):
        self.reader, writer = pty.openpty()
        self.file = os.fdopen(writer, "w", encoding="utf-8")
        self.chunks = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while True:
            try:
                chunk = os.read(self.reader, 65536)
            except OSError:
                return
            if not chunk:
                return
            self.chunks.append(chunk)

    def text(self):
        self.file.close()
        self.thread.join(timeout=5)
        os.close(self.reader)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(self.chunks).decode("utf-8"))


@pytest.fixture
def terminal(monkeypatch):
    """Opens a terminal inside the test: pytest sets standard error anew when a test starts."""

    def opened():
        found = Terminal()
        monkeypatch.setattr(sys, "stderr", found.file)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.delenv("NO_COLOR", raising=False)
        return found

    return opened


def test_without_a_terminal_every_step_is_two_plain_lines(capsys):
    reporter = Reporter()
    with reporter.step("reading [3] files"):
        reporter.note("half way")
    reporter.say("done [bold]here[/bold]", style="bold")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(
        r"  reading \[3\] files \.\.\.\n  reading \[3\] files: \d+\.\d s\ndone \[bold\]here\[/bold\]\n", captured.err
    )


def test_on_a_terminal_the_live_line_shows_notes_and_goes_away(terminal, capsys):
    screen, reporter = terminal(), Reporter()
    with reporter.step("training"):
        reporter.note("round 3 of at most 9: tune_rmse 0.5")
        reporter._live[0].refresh()
    seen = screen.text()
    assert "round 3 of at most 9: tune_rmse 0.5" in seen
    assert re.search(r"  training: \d+\.\d s", seen)
    assert capsys.readouterr().out == ""


def test_a_step_inside_a_step_is_fine(terminal):
    screen, reporter = terminal(), Reporter()
    with reporter.step("outer"):
        with reporter.step("inner"):
            reporter.note("a")
        reporter.note("b")
    seen = screen.text()
    assert re.search(r"  inner: \d+\.\d s", seen)
    assert re.search(r"  outer: \d+\.\d s", seen)


@pytest.mark.parametrize("where", ["terminal", "log"])
def test_an_error_passes_through_a_step(where, terminal):
    if where == "terminal":
        terminal()
    reporter = Reporter()
    with pytest.raises(ZeroDivisionError), reporter.step("dividing"):
        _ = 1 / 0
    with reporter.step("going on"):
        pass


def test_tasks_of_spark_are_counted(terminal):
    class Stage:
        numTasks, numCompletedTasks = 8, 3

    class Tracker:
        def getActiveStageIds(self):
            return [1, 2]

        def getStageInfo(self, stage):
            return Stage() if stage == 1 else None

    class Context:
        def statusTracker(self):
            return Tracker()

    screen, reporter = terminal(), Reporter()
    reporter.watch(Context)
    with reporter.step("counting"):
        progress, task = reporter._live
        for _ in range(100):
            if progress.tasks[task].total == 8:
                break
            threading.Event().wait(0.05)
        assert (progress.tasks[task].completed, progress.tasks[task].total) == (3, 8)
    assert "3/8" in screen.text()


def test_quiet_says_nothing(capsys):
    reporter = Reporter(quiet=True)
    with reporter.step("reading"):
        reporter.say("a line")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(
    ("value", "text"), [(1234567.8, "1,234,568"), (100, "100"), (99.96, "100"), (0.01234, "0.0123"), (-250.4, "-250")]
)
def test_figures_are_short(value, text):
    assert figure(value) == text
