"""Consumes a guess, produces a dataset YAML with its reasons as comments; any name of a column survives."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from assay.config.dataset import SourceConfig
from assay.config.yaml_text import parse_yaml
from assay.describing.columns import Column
from assay.describing.guess import Guess
from assay.describing.sampling import Sample
from assay.describing.targets import SHOWN, Candidate
from assay.ingest.files import local_path

WIDTH = 112
MOST_ASIDE = 0.05  # share of rows; ingest stops at twice as many
MOST_EACH = 12  # columns of one reason that are named in a comment
HISTORY: dict[str | None, tuple[list[int], list[int]]] = {  # lags, and windows in days that hold several times
    "1h": ([1, 24, 168], [1, 7, 30]),
    "1d": ([1, 7, 28], [7, 31, 92]),
    "business_day": ([1, 2, 5], [7, 31, 92]),
    "1w": ([1, 2, 4, 52], [29, 92, 365]),
    "1mo": ([1, 2, 3, 12], [95, 190, 370]),
    "1q": ([1, 2, 4], [190, 370, 740]),
    "1y": ([1, 2, 3], [740, 1100, 1830]),
}


def scalar(value: Any) -> str:
    """A value as YAML that assay reads back as it is, in a block or a list."""
    text = _dumped(value, None)
    # In quotes on one line: what YAML would fold, and what PyYAML writes plainly but YAML 1.2 reads otherwise (1e8).
    return text if "\n" not in text and parse_yaml(f"[{text}]") == [value] else _dumped(value, '"')


def _dumped(value: Any, style: str | None) -> str:
    text: str = yaml.safe_dump([value], default_flow_style=True, default_style=style, allow_unicode=True, width=10**9)
    return text.strip()[1:-1]


def flow(values: Iterable[Any]) -> str:
    """A list on one line."""
    return f"[{', '.join(scalar(list(v)) if isinstance(v, tuple) else scalar(v) for v in values)}]"


def comment(text: str, indent: int = 0, hang: int = 0) -> str:
    """A text as lines of a comment, whatever it holds. hang: blanks after each `#`, besides one."""
    plain = " ".join(re.sub(r"[^\x20-\x7e\u00a0-\ud7ff\ue000-\ufefe]", " ", text).split())
    lines, line = list[str](), ""
    for word in plain.split(" "):
        if line and len(line) + len(word) + 1 > WIDTH - indent - hang - 2:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join(f"{' ' * indent}# {' ' * hang}{one}" for one in [*lines, line])


def packed(names: Mapping[str, str], indent: int) -> str:
    """A list over several lines: names without a reason first, then those of each reason below it."""
    by_why: dict[str, list[str]] = {}
    for name, why in sorted(names.items(), key=lambda item: item[1] != ""):
        by_why.setdefault(why, []).append(name)
    lines = []
    for why, same in by_why.items():
        lines += [comment(why, indent)] if why else []
        lines += _rows(same, indent)
    return "[\n" + "\n".join(lines) + f"\n{' ' * (indent - 2)}]"


def _rows(names: Sequence[str], indent: int) -> list[str]:
    lines, line = list[str](), ""
    for name in names:
        item = scalar(name) + ","
        if line and indent + len(line) + len(item) + 1 > WIDTH:
            lines.append(" " * indent + line)
            line = item
        else:
            line = f"{line} {item}".strip()
    return [*lines, " " * indent + line]


def short_list(names: Mapping[str, str], indent: int) -> str:
    """A list, on one line where it needs no more."""
    one = flow(names)
    return one if not any(names.values()) and len(one) < WIDTH - 16 else packed(names, indent)


def written(guess: Guess, sample: Sample, *, name: str, out: Path) -> str:
    """The YAML of a guess. Figures in its comments are of the rows looked at."""
    environment = Environment(
        loader=PackageLoader("assay.describing", "."),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML, no page
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({"scalar": scalar, "flow": flow, "comment": comment, "short_list": short_list})
    steps = guess.entity.steps
    frequency = steps.frequency if steps else None
    lags, windows = HISTORY.get(frequency, ([1, 2, 3], [30, 90, 365]))
    return environment.get_template("dataset.yml.j2").render(
        guess=guess,
        name=name,
        title=f"{Path(sample.source.path).name or sample.source.path}: {looked_at(sample)}",
        source=source_keys(sample.source, guess, out),
        time=guess.time,
        entity=guess.entity,
        steps=steps,
        frequency=frequency,
        lags=lags if guess.entity.has_history else [1],
        windows=windows if guess.entity.has_history else [30, 90, 180],
        zoned=_zoned(guess.time.column) if guess.time else False,
        target=_target(guess.target),
        alternatives=[(_target(one), one.reasons) for one in guess.alternatives[:SHOWN]],
        quarantine=round(guess.aside + 0.05, 2) if guess.aside > MOST_ASIDE else None,
        left_out=left_out(guess),
    )


def looked_at(sample: Sample) -> str:
    """How many rows were looked at, of how many."""
    seen = f"{sample.frame.height:,}"
    if sample.whole:
        return f"all {seen} rows were looked at"
    return f"{seen} of {sample.rows:,} rows looked at" if sample.rows else f"the {seen} rows looked at are a sample"


def source_keys(source: SourceConfig, guess: Guess, out: Path) -> dict[str, Any]:
    """Keys of `source` that differ from the defaults. A path beside the YAML is written relative to it."""
    defaults = SourceConfig()
    found: dict[str, Any] = {"path": path_beside(source.path, out)}
    for key in ("format", "delimiter", "encoding"):
        if getattr(source, key) != getattr(defaults, key):
            found[key] = getattr(source, key)
    markers = [m for column in guess.looked.columns.values() for m in column.markers]
    if markers:
        found["null_values"] = list(dict.fromkeys([*defaults.null_values, *markers]))
    return found


def path_beside(given: str, out: Path) -> str:
    """A relative path as it is from the YAML's folder; an absolute one, or a URI, as it is."""
    place = local_path(given)
    if place is None or Path(given).is_absolute() or given.startswith("file:"):
        return given
    return Path(os.path.relpath(place.absolute(), out.absolute().parent)).as_posix()


def _zoned(column: Column) -> bool:
    return bool(column.times and column.times.format and "%z" in column.times.format)


def _target(candidate: Candidate) -> str:
    """An entry of `targets` on one line."""
    target = candidate.target
    keys: dict[str, Any] = {"name": target.name}
    for key, default in (("task", "regression"), ("transform", "none"), ("relative_to", "nothing")):
        if getattr(target, key) != default:
            keys[key] = getattr(target, key)
    keys |= {key: getattr(target, key) for key in ("positive", "negative") if getattr(target, key) is not None}
    told = [f"{key}: {scalar(value)}" for key, value in keys.items()]
    if target.classes:
        told.append(f"classes: {flow(target.classes)}")
    return "{" + ", ".join(told) + "}"


def left_out(guess: Guess) -> list[str]:
    """Why columns are in no list: one line per reason."""
    by_why: dict[str, list[str]] = {}
    for name, why in guess.left_out.items():
        by_why.setdefault(why, []).append(name)
    lines = [f"{leak.column!r}: a leak. {leak.why}" for leak in guess.leaks.values() if not leak.past]
    for why, names in by_why.items():
        more = f" and {len(names) - MOST_EACH} more" if len(names) > MOST_EACH else ""
        lines.append(f"{', '.join(map(repr, names[:MOST_EACH]))}{more}: {why}")
    return lines
