"""Consumes the command line of `assay init`, produces a dataset YAML that runs, and says what it guessed."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.config.options import Json
from assay.errors import UserError
from assay.runtime.failures import failures_told
from assay.runtime.program import program

if TYPE_CHECKING:
    from assay.describing.guess import Guess
    from assay.describing.sampling import Sample

NAME = "init"
PURPOSE = "Look at a data file and write a dataset YAML for it, with its guesses explained."
NAME_OF_DATASET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
LISTED = 8  # columns of one role in the table


def init(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CSV, JSON, Parquet, a folder of them, or a Delta table.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The YAML to write.")] = Path("my_data.yml"),
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the dataset. Default: the file's.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", metavar="COL", help="What is to be predicted.")] = None,
    time: Annotated[str | None, typer.Option("--time", metavar="COL", help="When a row was observed.")] = None,
    entity: Annotated[
        list[str] | None, typer.Option("--entity", metavar="COL", help="What is observed. May be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Look at a data file, and write a dataset YAML that says what its columns may be for, and why.

    At most 200,000 rows are looked at, in slices spread over the file. What columns hold counts first, names second.

    Reads: the file.

    Writes: the YAML (--out).

    Example:  `assay init sales.csv --out sales.yml`
    """
    with failures_told(NAME, as_json, lambda: None):
        if out.exists() and not force:
            raise UserError(f"--out {out}: there is such a file already; --force writes over it")
        if name is not None and not NAME_OF_DATASET.fullmatch(name):
            raise UserError(f"--name {name}: expected letters, digits, _ and -, 64 of them at most")
        sample, found = _written(file, out, name, target, time, entity or [])
    _tell(found, sample, out)
    if as_json:
        print(json.dumps(_as_dict(found, sample, out)), flush=True)


def _written(
    file: str, out: Path, name: str | None, target: str | None, time: str | None, entity: list[str]
) -> tuple[Sample, Guess]:
    """Look, guess, write, and load what was written as any run would.

    Raises:
        UserError: the source cannot be read, no column can be a key or target, or the YAML cannot be written.
    """
    from assay.config import load_dataset
    from assay.describing.guess import guess
    from assay.describing.sampling import sample_of
    from assay.describing.writing import written

    sample = sample_of(file)
    found = guess(sample, now=dt.datetime.now(dt.timezone.utc), time=time, entity=entity, target=target)
    text = written(found, sample, name=name or _name_of(file), out=out)
    part = out.with_name(f".{out.name}.part.yml")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        load_dataset(part)
        part.replace(out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot write there ({error.strerror})") from None
    finally:
        part.unlink(missing_ok=True)
    return sample, found


def _name_of(file: str) -> str:
    stem = Path(file.rstrip("/")).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("-_")[:64] or "my_data"


def _tell(found: Guess, sample: Sample, out: Path) -> None:
    from assay.describing.writing import looked_at
    from assay.runtime.printed import show, table

    show(table(("role", "columns", "why"), _rows(found)))
    print(f"{sample.source.path}: {looked_at(sample)}")
    for line in found.look_at:
        print(f"look at {line}")
    print(f"written: {out}")
    print(f"next: {program()} pipeline --dataset {out} --profile development", flush=True)


def _rows(found: Guess) -> list[tuple[str, str, str]]:
    time, entity = found.time, found.entity
    rows = []
    if time is not None:
        steps = entity.steps
        why = f"format {time.column.times.format}" if time.column.times and time.column.times.format else ""
        every = f"steps of {steps.told}" if steps is not None and steps.frequency else "at odd times"
        rows.append(("time", time.column.name, "; ".join(filter(None, (why, every)))))
    rows.append(("entity", ", ".join(entity.columns), entity.why))
    rows.append(("target", found.target.column, "; ".join(found.target.reasons)))
    rows += [
        (f"or {place}.", one.column, "; ".join(one.reasons)) for place, one in enumerate(found.alternatives[:3], 2)
    ]
    for place, names in found.placed.items():
        if names:
            whys = list(dict.fromkeys(why for why in names.values() if why))
            told = {"outcomes": "their past alone is used"}.get(place, whys[0] if len(whys) == 1 else "")
            rows.append((place, _some(list(names)), told))
    rows += [("leak", leak.column, leak.why) for leak in found.leaks.values()]
    if found.segments:
        share = found.segments[-1].share
        rows.append(("segments", ", ".join(s.column for s in found.segments), f"{share:.0%} of the target's variance"))
    if found.left_out:
        rows.append(("left out", _some(list(found.left_out)), "the YAML says why"))
    return rows


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _as_dict(found: Guess, sample: Sample, out: Path) -> dict[str, Any]:
    return {
        "job": NAME,
        "status": "done",
        "dataset": str(out),
        "rows_looked_at": sample.frame.height,
        "rows": sample.rows,
        "time": found.time.column.name if found.time else None,
        "time_format": found.time.column.times.format if found.time and found.time.column.times else None,
        "frequency": found.entity.steps.frequency if found.entity.steps else None,
        "entity": list(found.entity.columns),
        "target": found.target.column,
        "target_candidates": [one.column for one in (found.target, *found.alternatives)],
        "columns": {place: list(names) for place, names in found.placed.items()},
        "leaks": {leak.column: leak.why for leak in found.leaks.values()},
        "left_out": dict(found.left_out),
        "segments": [one.column for one in found.segments],
        "look_at": list(found.look_at),
    }
