"""Consumes the numbers of rows, produces which of them break which rule of ingest: each rule equally often."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from assay.errors import ConfigError
from assay.synthetic.config import MarketConfig
from assay.synthetic.layout import Layout
from assay.synthetic.streams import uniforms

PLACE = 60  # the random stream of places
TIME = "observed_at"
RULES = {
    "time_missing": f"column '{TIME}': no readable time (dataset.time.format)",
    "time_unreal": f"column '{TIME}': not between 1678 and 2261, so no real time",
    "time_future": f"column '{TIME}': in the future (dataset.time.future)",
    "entity_missing": "column 'entity': entity key is missing (dataset.entity)",
    "duplicate": "another row has the same entity and time: keep_first (dataset.duplicates)",
    "target_nan": "column 'price': target is NaN or infinite (dataset.targets)",
    "target_infinite": "column 'price': target is NaN or infinite (dataset.targets)",
    "target_negative": "column 'price': not above 0, as transform log needs (dataset.targets.transform)",
    "not_a_number": "column 'rooms': not a number (dataset.columns)",
    "infinite": "column 'size': infinite (dataset.columns)",
    "out_of_bounds": "column 'age_years': outside 0 to 500 (dataset.bounds.age_years)",
}
NAMES = tuple(RULES)
DUPLICATE = NAMES.index("duplicate")
UNREAL_US, FUTURE_US = -11_644_473_600_000_000, 7_258_118_400_000_000  # 1601-01-01, 2200-01-01


@dataclasses.dataclass(frozen=True)
class Faults:
    """Bad rows, in a market's rows. No two lie side by side, so that a duplicate's twin is a good row."""

    config: MarketConfig

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
        # An entity's first row has no row before it that it could double; the next one has.
        _, position, _ = Layout(self.config).entities(int(row[0]), int(row[-1]) + 1)
        row += (rule == DUPLICATE) & (position[row - row[0]] == 0)
        inside = (row >= start) & (row < stop)
        found[row[inside] - start] = rule[inside]
        return found
