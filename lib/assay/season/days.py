"""Consumes a day of the calendar, produces what it does to a workspace: raw files, the real jobs, and the faults."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl
import yaml

from assay.errors import AssayError, GateRefused
from assay.model.deployments import deployments_in
from assay.model.registry import registered_name
from assay.model.versions import CHALLENGER
from assay.pipeline import DAY, JOBS, run_job
from assay.runtime.deployment_tables import DEPLOYMENTS
from assay.runtime.job import REFUSED, Result
from assay.runtime.mlflow_client import client_of
from assay.runtime.session import SparkSettings
from assay.season.corruption import champion_file, put
from assay.season.faults import CANARY, FIRST_DAY, HARM_DAYS, WINDOW_DAYS, Calendar
from assay.season.killing import kill_in_the_middle, make_twin, same_rows
from assay.season.market import Stream
from assay.season.receiver import Mode, Receiver
from assay.season.record import Record
from assay.workspace import Workspace

DATASET, TARGET = "season", "price"
DAILY = tuple(stage.__name__ for stage in DAY)
TABLES = {"ingest": ("observations", "observations_quarantine"), "score": ("predictions",)}  # that a job leaves
ADDRESS = "ASSAY_SEASON_WEBHOOK_URL"
SETTINGS = (
    "engine.rounds=120",
    "engine.early_stopping_rounds=15",
    f"monitoring.window_days={WINDOW_DAYS}",
    "alerts.sinks=[log, webhook]",
    f"alerts.webhook.url_variable={ADDRESS}",
    # A receiver on this machine answers at once, or not at all.
    "alerts.webhook.timeout_seconds=0.5",
    "alerts.webhook.attempts=2",
    "alerts.webhook.backoff_seconds=0.05",
    "alerts.webhook.budget_seconds=2",
)
# The step lasts until harm would have shown.
OF_DEPLOYMENT = (
    "deployment.strategy=canary",
    f"deployment.steps=[{CANARY}]",
    f"deployment.bake_days={HARM_DAYS}",
)
# One round that learns a hundredth of what it sees, past all gates: it says the last known price.
POISON = (
    "engine.rounds=1",
    "engine.early_stopping_rounds=0",
    "engine.params={eta: 0.01}",
    "gates.champion=false",
    "gates.coverage_shortfall=null",
    "training.force_production_quality=false",
)
How = Literal["run", "kill", "corrupt", "poison"]


@dataclasses.dataclass(frozen=True)
class Step:
    """One job of a day, and what befalls it."""

    job: str
    how: How = "run"


def steps_of(day: dt.date, calendar: Calendar, jobs: Collection[str]) -> list[Step]:
    """Jobs of a day in their order, of those that there are."""
    found = []
    for job in DAILY:
        if job not in jobs:
            continue
        if job == "score" and calendar.starts("bad_challenger", day):
            found.append(Step("train", "poison"))
        if job == "score" and calendar.starts("corrupted_artifact", day):
            found.append(Step("score", "corrupt"))
        dies = (job == "ingest" and calendar.starts("killed_ingest", day)) or (
            job == "score" and calendar.starts("killed_score", day)
        )
        found.append(Step(job, "kill" if dies else "run"))
    return found


def mode_of(day: dt.date, calendar: Calendar) -> Mode:
    """How the webhook's receiver is on a day: dead ones answer nothing at first, then nobody listens."""
    fault = calendar.fault("dead_webhook")
    if fault is None or not calendar.lasts("dead_webhook", day):
        return "up"
    return "hanging" if (day - fault.first).days < 2 else "refusing"


class Player:
    """Plays days in a workspace. spark: how jobs reach Spark.  receiver: that the webhook posts to.  more: `--set`."""

    def __init__(
        self, record: Record, stream: Stream, receiver: Receiver, spark: SparkSettings, more: Sequence[str] = ()
    ) -> None:
        self.record, self.stream, self.receiver, self.spark = record, stream, receiver, spark
        self.calendar = stream.calendar
        self.settings = (*SETTINGS, *(OF_DEPLOYMENT if "deploy" in JOBS else ()), *more)
        self.hows: dict[How, Callable[[dt.date, str], None]] = {
            "run": self.live,
            "kill": self.kill,
            "corrupt": self.corrupt,
            "poison": self.poison,
        }

    def open(self) -> None:
        """The day before the first: history, and the first champion."""
        day = FIRST_DAY - dt.timedelta(days=1)
        tree = self.stream.dataset(self.record.raw.name)
        self.record.dataset.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        self.stream.deliver(self.record.raw, day)
        for job in ("ingest", "build_features", "train"):
            self.run(day, job)

    def play(self, day: dt.date) -> dict[str, float]:
        """One day. Played again after it was cut short, it ends the same. Returns the seconds of each job."""
        self.receiver.set(mode_of(day, self.calendar))
        self.stream.deliver(self.record.raw, day)
        seconds: dict[str, float] = {}
        for step in steps_of(day, self.turned_out(day), JOBS):
            started = time.monotonic()
            self.hows[step.how](day, step.job)
            seconds[step.job] = seconds.get(step.job, 0.0) + round(time.monotonic() - started, 2)
            if step.job == "score" and step.how != "corrupt":
                self.record.keep_said(day, self.said(day))
        return seconds

    def turned_out(self, day: dt.date) -> Calendar:
        """The calendar of a day: the bad challenger comes as soon as it is due and no other one is on its way."""
        fault, calendar = self.calendar.fault("bad_challenger"), self.record.calendar(self.calendar)
        if fault is None or day < fault.first or calendar is not self.calendar:
            return calendar
        return calendar.postponed("bad_challenger", day + dt.timedelta(days=1) if self._under_way() else day)

    def _under_way(self) -> bool:
        """Whether a deployment has not ended."""
        if not (self.record.workspace / "lake" / DEPLOYMENTS.name).is_dir():
            return False
        moves = Workspace(self.record.workspace).table(DEPLOYMENTS.name).to_dicts()
        return any(one.open for one in deployments_in(moves))

    def live(self, day: dt.date, job: str) -> None:
        """A job that nothing befalls."""
        self.run(day, job)

    def run(self, day: dt.date, job: str, *more: str, twin: bool = False) -> Result:
        """A job, as of noon of a day.

        Raises:
            GateRefused: it was refused, which no day of a season should be. A new model may be: that is on record.
        """
        workspace = self._twin(job) if twin else self.record.workspace
        result = run_job(
            job,
            settings=self.spark,
            dataset=self.record.dataset,
            workspace=workspace,
            overrides=(*self.settings, self._reporting(day), *more),
            date=_noon(day),
        )
        if result.status == REFUSED and job == "retrain":
            self.record.add(day, "not_learned", why=list(result.summary))
        elif result.status == REFUSED:
            raise GateRefused(f"season, {day}: {job} was refused: {'; '.join(result.summary)}")
        return result

    def _reporting(self, day: dt.date) -> str:
        """A report of health is drawn on the last day alone: it shows all of them."""
        return f"monitoring.report={str(day == self.calendar.dates[-1]).lower()}"

    def said(self, day: dt.date) -> pl.DataFrame:
        """Predictions of a day's rows, as the table has them now."""
        rows = Workspace(self.record.workspace).table("predictions")
        return rows.filter(pl.col("time").dt.date() == day)

    def kill(self, day: dt.date, job: str) -> None:
        """A job that dies in its middle and is run again; beside it a workspace in which it never died."""
        twin = self._twin(job)
        if self.record.event("killed", day, job=job) is None:
            make_twin(self.record.workspace, twin)
            arguments = [job, "--dataset", str(self.record.dataset), "--workspace", str(self.record.workspace)]
            arguments += ["--date", _noon(day)]
            arguments += [text for one in self.settings for text in ("--set", one)]
            arguments += ["--master", self.spark.chosen_master()]
            died = kill_in_the_middle(arguments, self.record.workspace)
            self.record.add(day, "killed", job=job, died=died)
        self.run(day, job)
        if self.record.event("outlived", day, job=job) is None:
            self.run(day, job, twin=True)
            same = same_rows(self.record.workspace, twin, TABLES[job])
            self.record.add(day, "outlived", job=job, same=same)
        shutil.rmtree(twin, ignore_errors=True)

    def corrupt(self, day: dt.date, job: str) -> None:
        """A job that meets a changed byte in the champion, which is then put right, as an operator would."""
        flipped = self.record.event("flipped", day)
        if flipped is None:
            path = champion_file(self._client(), DATASET, TARGET)
            at = path.stat().st_size // 2
            self.record.add(day, "flipped", path=str(path), at=at, byte=path.read_bytes()[at])
            flipped = self.record.event("flipped", day)
            assert flipped is not None
        path = self.record.workspace / flipped["path"]
        put(path, flipped["at"], flipped["byte"] ^ 1)
        try:
            self.run(day, job)
        except AssayError as error:
            self.record.add(day, "refused", job=job, error=str(error))
        finally:
            put(path, flipped["at"], flipped["byte"])

    def poison(self, day: dt.date, job: str) -> None:
        """A model that is plainly worse than the champion becomes its challenger."""
        if self.record.event("challenger", day) is None:
            self.run(day, job, *POISON)
            version = self._client().get_model_version_by_alias(registered_name(DATASET, TARGET), CHALLENGER)
            model = version.tags["assay.model_version"]
            self.record.add(day, "challenger", number=str(version.version), model_version=model)

    def _twin(self, job: str) -> Path:
        """One for each job: this process keeps MLflow's stores open that it has met, gone or not."""
        return self.record.folder / f"twin-{job}"

    def _client(self) -> Any:
        return client_of(f"sqlite:///{self.record.workspace / 'mlflow.db'}")


def _noon(day: dt.date) -> str:
    """Rows of a day are those of its midnight."""
    return f"{day}T12:00:00+00:00"
