"""Consumes what a job is doing, produces lines and a live bar on standard error; standard output stays clean."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

POLL_SECONDS = 0.4


def figure(value: float) -> str:
    """A number for a line of text: whole with thousands from 100 on, three significant digits below."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class Reporter:
    """Tells a person what happens. On a terminal a live line with Spark's task count, elsewhere one line per step."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self._spark: Callable[[], Any] | None = None
        self._live: tuple[Progress, Any] | None = None

    def watch(self, context: Callable[[], Any] | None) -> None:
        """Give access to the Spark context, once there is one, for task counts."""
        self._spark = context

    def say(self, text: str, style: str | None = None) -> None:
        """One line."""
        self.console.print(text, style=style, markup=False)

    def note(self, text: str) -> None:
        """Change the live line's text (a training round, say); where there is no terminal, nothing."""
        if self._live is not None:
            progress, task = self._live
            progress.update(task, detail=text)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A step that takes time."""
        started = time.monotonic()
        if not self.console.is_terminal:
            self.say(f"  {text} ...")
            yield
            self.say(f"  {text}: {time.monotonic() - started:.1f} s")
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(text, total=None, detail="")
            self._live = (progress, task)
            stop = threading.Event()
            poller = threading.Thread(target=self._poll, args=(progress, task, stop), daemon=True)
            poller.start()
            try:
                yield
            finally:
                stop.set()
                poller.join(timeout=2)
                self._live = None
        self.say(f"  {text}: {time.monotonic() - started:.1f} s")

    def _poll(self, progress: Progress, task: Any, stop: threading.Event) -> None:
        while not stop.wait(POLL_SECONDS):
            with contextlib.suppress(Exception):  # sessions without a context among them
                context = self._spark() if self._spark is not None else None
                if context is None:
                    continue
                tracker = context.statusTracker()
                stages = [tracker.getStageInfo(s) for s in tracker.getActiveStageIds()]
                found = [s for s in stages if s is not None]
                if found:
                    progress.update(
                        task,
                        total=sum(s.numTasks for s in found),
                        completed=sum(s.numCompletedTasks for s in found),
                    )
