"""Consumes trials as they end, produces a study's file, which a killed run leaves behind and the next one goes on with.

One line of JSON for the study, then one per trial that ended. Whatever proposes parameters reads the same file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from assay.errors import UserError

WHOLE = ("/Volumes/", "/Workspace/", "/dbfs/")  # folders of Databricks, whose files are written whole or not at all
COMPLETE, PRUNED, FAILED, RUNNING = "complete", "pruned", "failed", "running"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A set of parameters that was tried out.

    params: what the engine got over `engine.params`.  point: the same in the search space; the first trial, which
        gets nothing, is at the engine's own values.
    loss: on the model's scale, less is better; of a pruned trial the best that it came to, None of a failed one.
    rounds: at which that was.  values: (round, loss) as it was reported.
    seconds: that it took.  at_s: when it ended, in seconds that runs have spent on this study.
    reason: why it failed.
    share: of the rows that teach, what it learned from.  of: the trial with the same parameters that screened them.
    """

    number: int
    params: Mapping[str, Any]
    point: Mapping[str, Any]
    state: str
    loss: float | None
    rounds: int
    values: Sequence[tuple[int, float]]
    seconds: float
    at_s: float
    slot: int = 0
    reason: str = ""
    share: float = 1.0
    of: int | None = None

    @property
    def finished(self) -> bool:
        """Whether it counts for the budget."""
        return self.state in {COMPLETE, PRUNED}


@dataclasses.dataclass(frozen=True)
class Record:
    """A study as its file has it. told: what it is a study of."""

    told: Mapping[str, Any]
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """See `best_of`."""
        return best_of(self.trials)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The complete trial with the least loss, of those that learned from all rows; of equal ones the first."""
    complete = [t for t in trials if t.state == COMPLETE and t.loss is not None and t.share == 1]
    return min(complete, key=lambda t: (t.loss, t.number)) if complete else None


class Journal:
    """The file of a study that this run adds to. write: keeps one more line of it."""

    def __init__(self, write: Callable[[Mapping[str, Any]], None], trials: Sequence[Trial]) -> None:
        self._write = write
        self.trials = list(trials)

    def add(self, trial: Trial) -> None:
        """Keep a trial: it is on disk when this returns."""
        self.trials.append(trial)
        self._write(dataclasses.asdict(trial))


@contextlib.contextmanager
def opened(path: Path, told: Mapping[str, Any]) -> Iterator[Journal]:
    """The study's file, made or gone on with, held against other runs while the block lasts.

    Raises:
        UserError: another run has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if str(path).startswith(WHOLE):
        yield _rewritten(path, told)
        return
    with path.open("a+b") as sink:
        try:
            fcntl.flock(sink, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another run is at work on the study {path}: wait for it, or use another --workspace"
            ) from None
        sink.seek(0)
        content = sink.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # a run was killed while it wrote
            sink.truncate(whole)
        record = _parsed(content[:whole])
        if record is None:
            sink.truncate(0)
            _write(sink, {"study": dict(told)})
        yield Journal(functools.partial(_write, sink), record.trials if record is not None else ())


def _rewritten(path: Path, told: Mapping[str, Any]) -> Journal:
    """The study's file where nothing can be added to a file: each trial writes all of it, and nobody holds it."""
    record = read(path) if path.is_file() else None
    trials = record.trials if record is not None else ()
    lines = [{"study": dict(told)}, *map(dataclasses.asdict, trials)]

    def write(value: Mapping[str, Any]) -> None:
        lines.append(dict(value))
        part = path.with_suffix(".part")
        part.write_bytes(b"".join((json.dumps(line) + "\n").encode() for line in lines))
        part.replace(path)

    return Journal(write, trials)


def read(path: Path) -> Record | None:
    """A study's file, as far as it is written; None where it is none."""
    content = path.read_bytes()
    return _parsed(content[: content.rfind(b"\n") + 1])


def _write(sink: IO[bytes], value: Mapping[str, Any]) -> None:
    sink.write((json.dumps(value) + "\n").encode())
    sink.flush()
    os.fsync(sink.fileno())


def _parsed(content: bytes) -> Record | None:
    lines = content.splitlines()
    try:
        told = json.loads(lines[0])["study"]
        trials = [Trial(**json.loads(line)) for line in lines[1:]]
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    # JSON has lists where trials have pairs.
    return Record(
        told, tuple(dataclasses.replace(t, values=tuple((int(s), float(v)) for s, v in t.values)) for t in trials)
    )
