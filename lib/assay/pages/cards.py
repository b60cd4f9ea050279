"""Consumes a few figures and words of one thing, produces a card: HTML for notebooks, a few lines for terminals.

HTML goes into pages of others: its style is of the card alone, every text is escaped, and nothing is fetched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache

from jinja2 import Template

from assay.pages.formats import count, number, percent, points, readable
from assay.pages.templates import templates

MOST_TILES = 8
LEVELS = range(1, 100)


@dataclasses.dataclass(frozen=True)
class Tile:
    """A figure. value: as people read it.  label: what it is, with its unit.  note: what it is to be seen against."""

    value: str
    label: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Card:
    """kind: what it is of.  badge: its state in a word; good: whether that is as it should be, None where neither.

    facts: (term, text) pairs.  lines: sentences.  link: text and address.
    """

    kind: str
    title: str
    badge: str = ""
    good: bool | None = None
    tiles: Sequence[Tile] = ()
    facts: Sequence[tuple[str, str]] = ()
    lines: Sequence[str] = ()
    link: tuple[str, str] | None = None

    def html(self) -> str:
        """One `<section>`, complete in itself."""
        return _template().render(card=self)

    def text(self) -> str:
        """The same as lines."""
        head = f"{self.kind} {self.title}" + (f": {self.badge}" if self.badge else "")
        tiles = [f"{t.label}: {t.value}" + (f" ({t.note})" if t.note else "") for t in self.tiles]
        facts = [f"{term}: {told}" for term, told in self.facts]
        link = [f"{self.link[0]}: {self.link[1]}"] if self.link is not None else []
        return "\n  ".join([head, *tiles, *facts, *self.lines, *link])


@cache
def _template() -> Template:
    return templates("assay.pages").get_template("card.html.j2")


def headlines(metrics: Mapping[str, float]) -> list[Tile]:
    """The figures of a run that people ask for first; of several targets those of each, its name in front."""
    targets = {name.rpartition(".")[0] for name in metrics if not name.startswith("quality_metric.")}
    found = []
    for target in sorted(targets):
        prefix = f"{target}." if target else ""
        own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
        own = own if prefix else {name: value for name, value in own.items() if "." not in name}
        found += [dataclasses.replace(t, label=f"{target}: {t.label}") if target else t for t in _headlines(own)]
    return found[:MOST_TILES]


def _headlines(own: Mapping[str, float]) -> list[Tile]:
    known = [
        *_error(own, "rmse", "root mean squared error, in the target's unit"),
        *_error(own, "log_loss", "log loss"),
        *_one(own, "test_median_ape", "median error", percent(own.get("test_median_ape"))),
        *_one(own, "test_r2", "R²", number(own.get("test_r2"))),
        *(tile for level in LEVELS for tile in _coverage(own, level)),
        *_one(own, "health", "health, of 100", points(own.get("health"))),
        *_one(own, "quality_overall", "data quality, of 100", points(own.get("quality_overall"))),
        *_counts(own),
    ]
    return known or [Tile(number(value), readable(name)) for name, value in sorted(own.items())]


def _one(own: Mapping[str, float], name: str, label: str, value: str) -> list[Tile]:
    return [Tile(value, label, _band(own, name))] if name in own else []


def _error(own: Mapping[str, float], name: str, label: str) -> list[Tile]:
    if f"test_{name}" not in own:
        return []
    best, folds, spread = (own.get(key) for key in (f"best_baseline_{name}", f"cv_{name}", f"cv_{name}_std"))
    notes = [_band(own, f"test_{name}")]
    notes += [f"best simple rule {number(best)}"] if best is not None else []
    notes += [f"folds {number(folds)} ± {number(spread)}"] if folds is not None else []
    return [Tile(number(own[f"test_{name}"]), label, "; ".join(note for note in notes if note))]


def _coverage(own: Mapping[str, float], level: int) -> list[Tile]:
    for name in (f"coverage_{level}", f"test_coverage_{level}"):
        if name in own:
            chance = _band(own, f"{name}_chance", percent)
            note = f"promised {percent(level / 100, 0)}" + (f"; by chance {chance}" if chance else "")
            return [Tile(percent(own[name]), f"held by the {percent(level / 100, 0)} interval", note)]
    return []


def _counts(own: Mapping[str, float]) -> list[Tile]:
    words = {
        "rows_kept": "rows kept",
        "rows_quarantined": "rows in the quarantine",
        "features": "features",
        "rows": "rows",
        "calibration_rows": "rows that calibrate",
        "predictions": "predictions",
        "quality_bad": "of them bad",
        "alerts": "alerts",
    }
    return [Tile(count(round(own[name])), label) for name, label in words.items() if name in own]


def _band(own: Mapping[str, float], name: str, shown: object = None) -> str:
    low, high = own.get(f"{name}_low"), own.get(f"{name}_high")
    if low is None or high is None:
        return ""
    each = percent if shown is percent else number
    return f"{each(low)} to {each(high)}"
