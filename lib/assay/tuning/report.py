"""Consumes a study and earlier ones with the same judge, produces its report: one HTML page, a table, pictures."""

from __future__ import annotations

import csv
import dataclasses
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from assay.config.dataset import stored_name
from assay.pages.canvas import to_png, to_svg
from assay.pages.formats import MINUS, count, number, percent
from assay.pages.published import publish
from assay.pages.templates import templates
from assay.runtime.job import JobContext, reports_folder
from assay.tuning import figures
from assay.tuning.journal import COMPLETE, FAILED, PRUNED, Record, Trial, read
from assay.tuning.space import Space
from assay.tuning.surrogate import LEAST_TRIALS, fitted, is_choice

SHOWN_TRIALS = 20
CAPTIONS = {
    "history": "Filled dots are complete trials, hollow ones were ended early at the loss they had come to, crosses "
    "learned from a part of the rows. Hopeless ones are cut off above.",
    "importance": "From a forest fitted to complete trials: what is left is due to parameters together.",
    "interactions": "A large share says that the best value of one parameter depends on the other. Empty: under 0.05.",
    "slices": "Complete trials that learned from as many rows; the diamond is the best. A best value at the edge of "
    "its range asks for a wider one (tuning.space).",
    "contour": "The two parameters with numbers that matter most. The diamond is the best trial.",
    "comparison": "Studies that were judged by the same rows; this one is drawn thick.",
}


@dataclasses.dataclass(frozen=True)
class StudyView:
    """What the report shows. loss: what trials are judged by.  start: the trial of the engine's own parameters.

    others: newest first.
    """

    study: str
    target: str
    told: Mapping[str, Any]
    space: Space
    trials: Sequence[Trial]
    best: Trial
    start: Trial | None
    others: Sequence[tuple[str, Record]]
    loss: str = "loss"

    def count(self, state: str) -> int:
        """Trials with this state."""
        return sum(trial.state == state for trial in self.trials)


def curves(trials: Sequence[Trial]) -> dict[str, list[float]]:
    """For MLflow: losses in the order in which trials ended, and the best so far."""
    ended = sorted((t for t in trials if t.loss is not None), key=lambda t: t.at_s)
    return {
        "trial_loss": [float(t.loss) for t in ended if t.loss is not None],
        "best_so_far": [loss for _, __, loss in figures.best_so_far(trials)],
    }


def others(folder: Path, judge: str, own: Path) -> list[tuple[str, Record]]:
    """Other studies of the workspace that the same rows judge, newest first."""
    found = []
    for path in sorted(folder.glob("*.jsonl"), key=lambda p: p.stat().st_mtime, reverse=True):
        record = read(path) if path != own else None
        if record is not None and record.told.get("judge") == judge and record.best is not None:
            name = f"{record.told.get('engine')} {record.told.get('sampler')} {path.stem[-16:][:6]}"
            found.append((name, record))
    return found


def comparable(trials: Sequence[Trial]) -> list[Trial]:
    """Trials that learned from as many rows: of the number of rows that most complete trials had."""
    shares = [t.share for t in trials if t.state == COMPLETE]
    most = max(sorted(set(shares), reverse=True), key=shares.count, default=1.0)
    return [t for t in trials if t.share == most]


def table(view: StudyView) -> str:
    """All trials as CSV."""
    text = io.StringIO()
    names = list(view.space.parameters)
    writer = csv.writer(text)
    writer.writerow(["number", "state", "loss", "rounds", "share", "seconds", "at_s", "slot", *names, "reason"])
    for t in sorted(view.trials, key=lambda t: t.number):
        point = [t.point[name] for name in names]
        writer.writerow(
            [
                t.number,
                t.state,
                t.loss,
                t.rounds,
                t.share,
                round(t.seconds, 3),
                round(t.at_s, 3),
                t.slot,
                *point,
                t.reason,
            ]
        )
    return text.getvalue()


def draw(view: StudyView) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Figures by name, and the shares that are in them."""
    found: dict[str, Figure] = {"history": figures.history(view.trials)}
    facts: dict[str, Any] = {}
    names = list(view.space.parameters)
    alike = comparable(view.trials)
    surrogate = fitted(view.space, alike)
    if surrogate is not None:
        alone, pairs = surrogate.shares()
        names.sort(key=lambda name: -alone[name])
        facts = {"importance": alone, "interactions": {f"{a} x {b}": share for (a, b), share in pairs.items()}}
        found["importance"] = figures.importance(alone)
        if pairs:
            found["interactions"] = figures.interactions(view.space, pairs)
    found["slices"] = figures.slices(view.space, alike, names)
    ordered = [name for name in names if not is_choice(view.space, name)]
    if surrogate is not None and len(ordered) > 1:
        found["contour"] = figures.contour(surrogate, alike, *ordered[:2])
    if view.others:
        mine = Record(view.told, tuple(view.trials))
        found["comparison"] = figures.comparison([("this study", mine), *view.others])
    return found, facts


def page(view: StudyView, drawn: Mapping[str, Figure]) -> str:
    """The HTML page; it makes no request and needs no script."""
    environment = templates("assay.tuning", [exact, setting])
    start = view.start.loss if view.start is not None else None
    best = view.best.loss
    alternatives = _alternatives(view)
    ranked = sorted((t for t in view.trials if t.state == COMPLETE and t.share == 1), key=lambda t: (t.loss, t.number))
    return environment.get_template("report.html.j2").render(
        view=view,
        complete=view.count(COMPLETE),
        pruned=view.count(PRUNED),
        failed=view.count(FAILED),
        seconds=max(t.at_s for t in view.trials),
        gain=1 - best / start if start and best is not None and best < start else None,
        ranked=ranked,
        shown=SHOWN_TRIALS,
        least=LEAST_TRIALS,
        names=list(view.space.parameters),
        figures={name: to_svg(figure, name, alternatives[name]) for name, figure in drawn.items()},
        captions=CAPTIONS,
    )


def exact(loss: float | None) -> str:
    """A loss with the digits in which trials differ."""
    return number(loss) if loss is None else f"{loss:,.5g}".replace("-", MINUS)


def setting(value: object) -> str:
    """A parameter's value as people read it."""
    return number(value) if isinstance(value, float) else str(value)


def _alternatives(view: StudyView) -> dict[str, str]:
    """What each figure says, for those who do not see it."""
    trials, parameters = count(len(view.trials), "trial"), count(len(view.space.parameters), "parameter")
    gained = ""
    if view.start is not None and view.start.loss and view.best.loss is not None:
        gained = f", {percent(view.best.loss / view.start.loss, 1)} of what it was with the parameters as they were"
    return {
        "history": f"Loss of {trials} in the order in which they ended; the best is {exact(view.best.loss)}{gained}.",
        "importance": f"Share of the variance of the loss that each of {parameters} explains alone, largest on top.",
        "interactions": f"Share of the variance of the loss that pairs of {parameters} explain only together.",
        "slices": "Loss over each parameter, a panel for each, with the best trial marked.",
        "contour": "Expected loss over the two parameters with numbers that matter most, with the trials.",
        "comparison": f"Best loss so far of this study and {count(len(view.others), 'other')}, by trials and seconds.",
    }


def write(view: StudyView, context: JobContext) -> str:
    """Put everything on record, and the page into the workspace; its path."""
    drawn, facts = draw(view)
    html = page(view, drawn)
    with tempfile.TemporaryDirectory(prefix="assay-study-") as folder:
        for name, figure in drawn.items():
            (Path(folder) / f"{name}.png").write_bytes(to_png(figure))
        context.tracking.folder(Path(folder), "figures")
    context.tracking.text(html, "study.html")
    context.tracking.text(table(view), "trials.csv")
    context.tracking.json({"study": view.study, **view.told, **facts}, "study.json")
    target = reports_folder(context.config) / f"tune-{stored_name(view.target)}-{view.study}.html"
    return str(publish(target, html))
