"""Consumes what happens in a season, produces its record on disk, so that one that was killed goes on where it was.

Beside the workspace's tables, in its folder `season`: `season.json` (what is played, finished days, events),
`said/DAY.parquet` (predictions as they were made on the day) and `received.txt` (what the webhook's receiver took).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from assay.errors import UserError
from assay.season.faults import Calendar

FOLDER, RAW = "season", "raw"
SAID = ("row_id", "entity", "time", "prediction", "lower_80", "upper_80", "model_version")
Event = dict[str, Any]


@dataclasses.dataclass
class Record:
    """The record of a season in a workspace. played: what identifies it.  days: finished ones, and seconds of jobs."""

    workspace: Path
    played: dict[str, Any]
    days: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    events: list[Event] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, workspace: Path, played: dict[str, Any]) -> Record:
        """The record that is there, or a new one.

        Raises:
            UserError: the workspace cannot be written, has a season with other settings, or is somebody else's.
        """
        path = workspace / FOLDER / "season.json"
        try:
            if path.is_file():
                found = json.loads(path.read_text(encoding="utf-8"))
                if found["played"] != played:
                    was = ", ".join(f"{k} {v}" for k, v in found["played"].items() if v != played.get(k))
                    raise UserError(f"--workspace {workspace}: another season is there ({was}); choose another folder")
                return cls(workspace, played, found["days"], found["events"])
            if (workspace / "assay.json").exists():
                raise UserError(
                    f"--workspace {workspace}: there are tables of other jobs; a season needs its own folder"
                )
            record = cls(workspace, played)
            record._write()
        except OSError as error:
            raise UserError(f"--workspace {workspace}: cannot write there ({error.strerror})") from None
        return record

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.workspace / FOLDER

    @property
    def raw(self) -> Path:
        """Folder of the raw files."""
        return self.folder / RAW

    @property
    def dataset(self) -> Path:
        """The dataset YAML."""
        return self.folder / "dataset.yml"

    def finished(self, day: dt.date) -> bool:
        """Whether a day was played to its end."""
        return day.isoformat() in self.days

    def finish(self, day: dt.date, seconds: dict[str, float]) -> None:
        """Say that it was."""
        self.days[day.isoformat()] = seconds
        self._write()

    def add(self, day: dt.date, kind: str, **facts: Any) -> None:
        """Put an event on record, at once and once: a day that is played again has the same ones."""
        event = {"day": day.isoformat(), "event": kind, **facts}
        if event not in self.events:
            self.events.append(event)
            self._write()

    def event(self, kind: str, day: dt.date, **facts: Any) -> Event | None:
        """The newest event of a kind on a day that has these facts."""
        wanted = {"day": day.isoformat(), "event": kind, **facts}
        return next((one for one in reversed(self.events) if wanted.items() <= one.items()), None)

    def calendar(self, planned: Calendar) -> Calendar:
        """The calendar as it turned out: the bad challenger waits while another one is on its way."""
        met = next((one["day"] for one in self.events if one["event"] == "challenger"), None)
        return planned.postponed("bad_challenger", dt.date.fromisoformat(met)) if met is not None else planned

    def keep_said(self, day: dt.date, said: pl.DataFrame) -> None:
        """Keep predictions as they were made."""
        folder = self.folder / "said"
        folder.mkdir(exist_ok=True)
        part = folder / f".{day}.part"
        said.select(SAID).sort("row_id").write_parquet(part)
        part.replace(folder / f"{day}.parquet")

    def said(self, days: Sequence[dt.date]) -> pl.DataFrame:
        """Predictions as they were made on these days: columns of `SAID` and day; none of days that are missing."""
        parts = [(day, self.folder / "said" / f"{day}.parquet") for day in days]
        frames = [pl.read_parquet(path).with_columns(day=pl.lit(day)) for day, path in parts if path.is_file()]
        schema = {"row_id": pl.Int64, "entity": pl.String, "prediction": pl.Float64, "lower_80": pl.Float64}
        empty = pl.DataFrame(schema={**schema, "upper_80": pl.Float64, "model_version": pl.String, "day": pl.Date})
        return pl.concat(frames) if frames else empty

    @property
    def received(self) -> Path:
        """File of the notifications that the webhook's receiver took, one id a line."""
        return self.folder / "received.txt"

    def received_ids(self) -> list[str]:
        """Ids of notifications that the receiver took."""
        return self.received.read_text(encoding="utf-8").split() if self.received.is_file() else []

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / ".season.part"
        tree = {"played": self.played, "days": self.days, "events": self.events}
        part.write_text(json.dumps(tree, indent=1), encoding="utf-8")
        part.replace(self.folder / "season.json")
