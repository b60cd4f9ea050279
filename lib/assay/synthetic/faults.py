"""Consumes the numbers of rows, produces which of them break which rule of ingest: each rule equally often."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from assay.errors import ConfigError
from assay.synthetic.config import MarketConfig
from assay.synthetic.presets import shown
from assay.synthetic.streams import uniforms

PLACE = 60  # the random stream of places
RULES = {
    "time_missing": "column '{time}': no readable time (dataset.time.format)",
    "time_unreal": "column '{time}': not between 1678 and 2261, so no real time",
    "time_future": "column '{time}': in the future (dataset.time.future)",
    "entity_missing": "column '{entity}': entity key is missing (dataset.entity)",
    "duplicate": "another row has the same entity and time: keep_first (dataset.duplicates)",
    "target_nan": "column '{price}': target is NaN or infinite (dataset.targets)",
    "target_infinite": "column '{price}': target is NaN or infinite (dataset.targets)",
    "target_negative": "column '{price}': not above 0, as transform log needs (dataset.targets.transform)",
    "not_a_number": "column '{counted}': not a number (dataset.columns)",
    "infinite": "column '{measured}': infinite (dataset.columns)",
    "out_of_bounds": "column '{bounded}': outside {low:g} to {high:g} (dataset.bounds.{bounded})",
}
NAMES = tuple(RULES)
DUPLICATE = NAMES.index("duplicate")
UNREAL_US, FUTURE_US = -11_644_473_600_000_000, 7_258_118_400_000_000  # 1601-01-01, 2200-01-01


@dataclasses.dataclass(frozen=True)
class Faults:
    """Bad rows, in a market's rows. No two lie side by side, so that a duplicate's twin is a good row."""

    config: MarketConfig

    @cached_property
    def reasons(self) -> dict[str, str]:
        """Rule -> the reason that ingest gives."""
        named = dataclasses.asdict(shown(self.config).names)
        return {rule: text.format(**named) for rule, text in RULES.items()}

    @cached_property
    def each(self) -> int:
        """Rows that break each rule.

        Raises:
            ConfigError: the share of bad rows is not enough for one of each.
        """
        each = int(self.config.bad_share * self.config.rows) // len(RULES)
        if self.config.bad_share and not each:
            raise ConfigError(
                f"--bad-share {self.config.bad_share:g}: of {self.config.rows} rows this is not one for each of "
                f"{len(RULES)} rules; ask for more rows, or a share of at least {len(RULES) / self.config.rows:.2g}"
            )
        return each

    def of(self, start: int, stop: int) -> np.ndarray:
        """Of rows start <= row < stop: index into `NAMES` of the rule that is broken, -1 where none is; int64."""
        found = np.full(stop - start, -1)
        total = self.each * len(RULES)
        if not total:
            return found
        # One bad row in each of as many stretches of at least 4 rows, neither the first nor the last of its stretch.
        stretch = self.config.rows // total
        low, high = start // stretch, min(stop // stretch + 1, total)
        if low >= high:
            return found
        rule = np.arange(low, high) % len(RULES)
        place = uniforms(self.config.seed, PLACE, low, high) * (stretch - 2)
        row = np.arange(low, high) * stretch + 1 + place.astype(np.int64)
        # An entity's first row has no row before it that it could double; the next one has, or else the one before.
        _, position, _ = shown(self.config).layout.entities(int(row[0]), int(row[-1]) + 2)
        place = row - row[0]
        beside = np.where(position[place + 1] > 0, 1, -1)
        row += np.where((rule == DUPLICATE) & (position[place] == 0), beside, 0)
        inside = (row >= start) & (row < stop)
        found[row[inside] - start] = rule[inside]
        return found
