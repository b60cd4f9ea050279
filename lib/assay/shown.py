"""Consumes runs, models and reports as they are on record, produces what shows itself in notebooks and terminals."""

from __future__ import annotations

import dataclasses
import datetime as dt
import html
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.model.registry import Champion
from assay.model.versions import Version
from assay.pages.cards import Card, Tile, headlines
from assay.pages.formats import count, day, number, percent
from assay.runtime.job import DONE, REFUSED, UNCHANGED, Result

MOST_FEATURES = 8
FRAME_HEIGHT = 700
SAID = {DONE: "done", UNCHANGED: "unchanged: an equal run is on record", REFUSED: "refused by a quality gate"}


class Showing:
    """Something with a card."""

    def card(self) -> Card:
        """What is shown."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.card().text()

    def _repr_html_(self) -> str:
        return self.card().html()


@dataclasses.dataclass(frozen=True, repr=False)
class JobResult(Showing, Result):
    """What a job did, as `Result` has it. seconds: that it took.  workspace: where its tables and runs are."""

    seconds: float = 0.0
    workspace: Path | None = None

    @classmethod
    def of(cls, result: Result, *, seconds: float, workspace: Path) -> JobResult:
        """A result, with how long it took and where it lies."""
        told = {field.name: getattr(result, field.name) for field in dataclasses.fields(Result)}
        return cls(**told, seconds=seconds, workspace=workspace)

    def card(self) -> Card:
        """Job, status, duration, figures, tables, and its report."""
        tables = [f"{name} (version {state.version})" for name, state in self.tables.items()]
        facts = [("took", duration(self.seconds)), ("run", self.run_id)]
        facts += [("tables", ", ".join(tables))] if tables else []
        facts += [("workspace", str(self.workspace))] if self.workspace is not None else []
        good = self.status != REFUSED
        tiles = headlines(self.metrics)
        return Card("job", self.job, SAID.get(self.status, self.status), good, tiles, facts, self.summary, self._link())

    def _link(self) -> tuple[str, str] | None:
        return link_to(self.report)


@dataclasses.dataclass(frozen=True, repr=False)
class Run(Showing):
    """A job's run in MLflow. started: UTC.  seconds: None while it is under way.  metrics: all figures.

    summary: lines for a person.  report: path, where there is one.
    """

    run_id: str
    job: str
    status: str
    started: dt.datetime
    seconds: float | None
    metrics: Mapping[str, float]
    summary: Sequence[str] = ()
    target: str = ""
    report: str | None = None

    def card(self) -> Card:
        """Job, status, duration, figures, and its report."""
        good = {DONE: True, UNCHANGED: True, REFUSED: False, "failed": False}.get(self.status)
        took = duration(self.seconds) if self.seconds is not None else "not ended"
        facts = [("target", self.target)] if self.target else []
        facts += [("started", f"{self.started:%Y-%m-%d %H:%M} UTC"), ("took", took), ("run", self.run_id)]
        tiles = headlines(self.metrics)
        return Card("run of", self.job, self.status, good, tiles, facts, self.summary, link_to(self.report))


@dataclasses.dataclass(frozen=True, repr=False)
class Model(Showing):
    """A registered version of a target's model. found: the model itself, every file of which was checked."""

    target: str
    version: Version
    found: Champion

    @property
    def importance(self) -> dict[str, float]:
        """Input -> its share of the importance of all, 0 to 1, greatest first; empty where the engine says none."""
        return self.found.model.importance_shares()

    def card(self) -> Card:
        """Target, engine, version, what intervals promise and held, inputs, and until when it learned."""
        model, calibration = self.found.model, self.found.calibration
        held = {float(level): share for level, share in self._coverage().items()}
        promises = "sets" if model.outcome.decides else "intervals"
        tiles = [
            Tile(percent(level, 0), f"promised by its {promises}", f"held {percent(held[level])} of the test period")
            if level in held
            else Tile(percent(level, 0), f"promised by its {promises}")
            for level in calibration["levels"]
        ]
        inputs = list(model.input_columns)
        worth = [f"{name} {percent(share)}" for name, share in list(self.importance.items())[:MOST_FEATURES]]
        facts = [
            ("engine", ", ".join(model.engines) + (f" (module {model.extension})" if model.extension else "")),
            ("version", self.version.label),
            ("learned until", day(dt.datetime.fromisoformat(model.learned_until))),
            ("registered", f"{self.version.registered_at:%Y-%m-%d %H:%M} UTC"),
            ("score", str(calibration["score"])),
            ("inputs", count(len(inputs)) + (f"; most important: {', '.join(worth)}" if worth else "")),
        ]
        if rmse := self.version.tag("rmse"):
            facts.insert(3, ("error on its test", number(float(rmse))))
        state = self.version.state
        return Card("model of", self.target, state, True if state == "serving" else None, tiles, facts)

    def _coverage(self) -> dict[str, float]:
        told = self.version.tag("coverage")
        found: dict[str, float] = json.loads(told) if told else {}
        return found


@dataclasses.dataclass(frozen=True, repr=False)
class Report(os.PathLike[str]):
    """An HTML report. In a notebook it shows itself whole, apart from the notebook's own page."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"report {self.path.stem}: {self.path}"

    def _repr_html_(self) -> str:
        # Without `allow-same-origin` what is inside can touch nothing of the notebook.
        page = html.escape(self.path.read_text(encoding="utf-8"))
        title = html.escape(f"report {self.path.stem}")
        return (
            f'<div><iframe title="{title}" sandbox="allow-scripts allow-popups" srcdoc="{page}" width="100%" '
            f'height="{FRAME_HEIGHT}" style="border: 0"></iframe></div>'
        )


def link_to(report: str | None) -> tuple[str, str] | None:
    """Name and address of a report's file."""
    return (f"report {Path(report).stem}", Path(report).absolute().as_uri()) if report else None


def duration(seconds: float) -> str:
    """As people say it: 4.2 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
