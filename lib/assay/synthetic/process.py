"""Consumes the numbers of rows, produces them: what a buyer would see, and the truth that only the generator knows.

    log price[i, t] = level[i, t] + phi * (log price - level)[i, t-1] + noise_sd[i, t] * e[i, t],   e standard normal

where t-1 is the entity's row before, and the level is the sum of the market's trend, a random walk per region and
month, seasons of the year (per kind) and the week, effects of region, kind and entity, and effects of attributes.
Further attributes, where asked for, are standard normal; all of them together move log prices by some 0.3.
So whoever knows the process and the past can do no better than `expected`, and errs by exactly `noise_sd`.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import ClassVar

import numpy as np

from assay.synthetic.config import MarketConfig
from assay.synthetic.layout import DAY_US, JITTER, Layout
from assay.synthetic.streams import normals, uniforms

PHI = 0.6
WARM_UP = 128  # rows after which a past deviation counts for less than a double can show: 0.6 ** 128 is 4e-29
ROOM_EFFECT = 0.05
GRADES = ("a", "b", "c", "d", "e")
GRADE_EFFECTS = np.array([0.25, 0.1, 0.0, -0.1, -0.25])
PROMOTIONS = ("none", "discount", "feature")
PROMOTION_EFFECTS = np.array([0.0, -0.08, 0.05])
PROMOTION_NOISE = np.array([1.0, 1.5, 1.5])
YEAR_US = 365.25 * DAY_US

# Random streams: of rows, of entities, of kinds and regions.
NOISE, CONDITION, PROMOTION, DEMAND = range(JITTER + 1, JITTER + 5)
ENTITY, SIZE, AGE, ROOMS, GRADE, POPULARITY = range(20, 26)
REGION, WALK, KIND, KIND_SEASON, KIND_PHASE, KIND_NOISE = range(40, 46)
ATTRIBUTE_EFFECT, ATTRIBUTE = 100, 1_000  # the latter of the first attribute, those after it follow


@dataclasses.dataclass(frozen=True)
class Rows:
    """Whole rows, shape (n,) each; attributes: shape (attributes, n).

    entity, region, kind, grade, promotion: codes from 0. time: microseconds since 1970.
    expected: logarithm of the price without its noise. noise_sd: standard deviation of the noise in it.
    log_price, next_log_price: with noise; the entity's next row's, NaN where it has none.
    drifted: whether the row lies after the drift's date.
    """

    row: np.ndarray
    entity: np.ndarray
    time: np.ndarray
    region: np.ndarray
    kind: np.ndarray
    size: np.ndarray
    age_years: np.ndarray
    rooms: np.ndarray
    condition: np.ndarray
    grade: np.ndarray
    promotion: np.ndarray
    attributes: np.ndarray
    sales: np.ndarray
    expected: np.ndarray
    noise_sd: np.ndarray
    log_price: np.ndarray
    next_log_price: np.ndarray
    drifted: np.ndarray


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much each part moves the logarithm of a price: the typical price itself, a year of the market and one of age,
    a condition of 1 against one of 0, and the standard deviations of a region's step a month, of regions, of entities.
    """

    price: float = 5.0
    year: float = 0.04
    age: float = -0.01
    condition: float = 0.3
    walk: float = 0.012
    region: float = 0.3
    entity: float = 0.4


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Rows first <= row < last on their way: what is known of them before their price. Names as in `Rows`."""

    first: int
    last: int
    entity: np.ndarray
    time: np.ndarray
    kind: np.ndarray
    age: np.ndarray
    rooms: np.ndarray


@dataclasses.dataclass(frozen=True)
class Market:
    """The process. Any row can be made by itself, and is the same whichever rows are made with it."""

    config: MarketConfig
    sizes: ClassVar[Sizes] = Sizes()

    @cached_property
    def layout(self) -> Layout:
        """Whose rows are whose, and when."""
        return Layout(self.config)

    def rows(self, start: int, stop: int) -> Rows:
        """Rows start <= row < stop. Memory: some 300 bytes a row, and 8 for each further attribute."""
        first, last = max(0, start - WARM_UP), min(self.config.rows, stop + 1)
        seed, drift, layout, sizes = self.config.seed, self.config.drift, self.layout, self.sizes
        entity, position, _ = layout.entities(first, last)
        time = layout.times(first, last)
        drifted = time >= layout.drift_us
        region, kind = self.groups(entity)

        years = (time - layout.bounds_us[0]) / YEAR_US
        size, age0, rooms, grade, own, popularity = (column[entity - entity[0]] for column in self._entities(entity))
        age = age0 + years
        condition = uniforms(seed, CONDITION, first, last)
        if drift.covariate is not None:
            condition = np.where(drifted, condition ** (1 / drift.covariate), condition)
        chance = uniforms(seed, PROMOTION, first, last)
        promotion = (chance > 0.8).astype(np.int64) + (chance > 0.95)

        attributes = self._attributes(first, last)

        kinds = self._kinds()
        season = kinds["season"][kind] * np.sin(2 * np.pi * years + kinds["phase"][kind])
        weekday = 2 * np.pi * (time // DAY_US % 7) / 7
        level = (
            sizes.price
            + sizes.year * years
            + self._walk(layout, time, region)
            + season
            + (0.0 if self.config.frequency in {"weekly", "monthly"} else 0.03) * np.cos(weekday)
            + sizes.region * normals(seed, REGION, 0, self.config.regions)[region]
            + kinds["effect"][kind]
            + own
            + 0.7 * np.log(size / 100)
            + sizes.age * age
            + ROOM_EFFECT * rooms
            + sizes.condition * (condition - 0.5)
            + GRADE_EFFECTS[grade]
            + PROMOTION_EFFECTS[promotion]
        )
        # One by one: what a product of matrices sums may depend on how many rows it has.
        for effect, attribute in zip(self.attribute_effects(), attributes, strict=True):
            level = level + effect * attribute
        level = level + self.further(Drawn(first, last, entity, time, kind, age, rooms))
        if drift.level is not None:
            level = level + np.where(drifted, drift.level, 0.0)
        noise_sd = self.config.noise * kinds["noise"][kind] * (0.5 + condition) * PROMOTION_NOISE[promotion]
        if drift.noise is not None:
            noise_sd = np.where(drifted, drift.noise * noise_sd, noise_sd)

        shock = noise_sd * normals(seed, NOISE, first, last)
        before = np.where(position > 0, np.concatenate(([0.0], autoregressive(shock, position)[:-1])), 0.0)
        expected = level + PHI * before
        log_price = expected + shock
        demand = 3 + 0.5 * popularity + 0.3 * season + 0.3 * normals(seed, DEMAND, first, last)
        following = np.append(log_price[1:], np.nan)
        following[:-1][position[1:] == 0] = np.nan

        inner = slice(start - first, stop - first)
        return Rows(
            row=np.arange(start, stop),
            entity=entity[inner],
            time=time[inner],
            region=region[inner],
            kind=kind[inner],
            size=size[inner],
            age_years=age[inner],
            rooms=rooms[inner],
            condition=condition[inner],
            grade=grade[inner],
            promotion=promotion[inner],
            attributes=attributes[:, inner],
            sales=np.round(np.exp(demand[inner])),
            expected=expected[inner],
            noise_sd=noise_sd[inner],
            log_price=log_price[inner],
            next_log_price=following[inner],
            drifted=drifted[inner],
        )

    def further(self, drawn: Drawn) -> np.ndarray | float:
        """What else moves the logarithm of the prices of rows; nothing in a market as it is."""
        return 0.0

    def groups(self, entity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Region and kind of entities."""
        return entity % self.config.regions, entity // self.config.regions % self.config.kinds

    def attribute_effects(self) -> np.ndarray:
        """What one standard deviation of each further attribute adds to the logarithm of the price."""
        count = self.config.attributes
        found: np.ndarray = 0.3 / np.sqrt(max(1, count)) * normals(self.config.seed, ATTRIBUTE_EFFECT, 0, count)
        return found

    def _attributes(self, first: int, last: int) -> np.ndarray:
        """Further attributes of rows first <= row < last; shape (attributes, rows)."""
        found = np.empty((self.config.attributes, last - first))
        for index, values in enumerate(found):
            values[:] = normals(self.config.seed, ATTRIBUTE + index, first, last)
        return found

    def _entities(self, entity: np.ndarray) -> tuple[np.ndarray, ...]:
        """Size, age at the start, rooms, grade, effect and popularity of the entities from the first to the last."""
        seed, first, last = self.config.seed, int(entity[0]), int(entity[-1]) + 1
        size = np.round(100 * np.exp(0.5 * normals(seed, SIZE, first, last)), 1)
        age = np.floor(40 * uniforms(seed, AGE, first, last))
        rooms = 1 + np.floor(6 * uniforms(seed, ROOMS, first, last))
        grade = (len(GRADES) * uniforms(seed, GRADE, first, last)).astype(np.int64)
        effect = self.sizes.entity * normals(seed, ENTITY, first, last)
        return size, age, rooms, grade, effect, normals(seed, POPULARITY, first, last)

    def _kinds(self) -> dict[str, np.ndarray]:
        """Per kind: effect, size and phase of its season of the year, factor of its noise."""
        seed, kinds = self.config.seed, self.config.kinds
        return {
            "effect": 0.3 * normals(seed, KIND, 0, kinds),
            "season": 0.05 + 0.1 * uniforms(seed, KIND_SEASON, 0, kinds),
            "phase": 2 * np.pi * uniforms(seed, KIND_PHASE, 0, kinds),
            "noise": 2.0 ** (uniforms(seed, KIND_NOISE, 0, kinds) - 0.5),
        }

    def _walk(self, layout: Layout, time: np.ndarray, region: np.ndarray) -> np.ndarray:
        """The regions' random walks, a step a month."""
        begin, end = (np.datetime64(t, "us").astype("datetime64[M]").astype(np.int64) for t in layout.bounds_us)
        month = time.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64) - begin
        months = int(end - begin) + 1
        steps = normals(self.config.seed, WALK, 0, self.config.regions * months).reshape(-1, months)
        walked: np.ndarray = np.cumsum(self.sizes.walk * steps, axis=1)[region, month]
        return walked


def autoregressive(shock: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Deviations u with u[i] = PHI * u[i-1] + shock[i], from 0 before each entity's first row.

    Each is the sum over its last `WARM_UP` shocks, added in an order that does not depend on where the arrays begin:
    twice as many shocks at each step.
    """
    found: np.ndarray = shock.copy()
    back = 1
    while back < WARM_UP:
        found[back:] += np.where(position[back:] >= back, PHI**back * found[:-back], 0.0)
        back *= 2
    return found
