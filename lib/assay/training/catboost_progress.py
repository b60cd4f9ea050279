"""Consumes what CatBoost says of its rounds, by callback or in its log, produces live figures for the driver."""

from __future__ import annotations

import re
from typing import Any

from assay.runtime.signals import Sender

LINE = re.compile(r"^(\d+):.*?\btest: (\S+)")


def told_as(metric: str) -> str:
    """What a metric on tune is called: without its own settings, which names of metrics do not take."""
    return f"tune_{metric.partition(':')[0].lower()}"


def reporter(sender: Sender) -> Any:
    """A callback that sends the figures of each round on tune. CatBoost takes none on a GPU."""

    class Report:
        def after_iteration(self, info: Any) -> bool:
            found = info.metrics.get("validation", {})
            metrics = {told_as(name): values[-1] for name, values in found.items()}
            sender.send(round=info.iteration - 1, metrics=metrics)
            return True

    return Report()


class LogLines:
    """A stream that CatBoost logs to, such as `12:	learn: 0.3	test: 0.4	best: 0.4 (12)`; it is told anywhere."""

    def __init__(self, sender: Sender, metric: str) -> None:
        self.sender = sender
        self.metric = metric
        self.rest = ""

    def write(self, text: str) -> None:
        """Send the figures of each whole line that has some."""
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            found = LINE.match(line)
            if found:
                self.sender.send(round=int(found[1]), metrics={self.metric: float(found[2])})

    def flush(self) -> None:
        """Nothing waits."""
