"""Consumes what a market is to be like, produces a `MarketConfig`: every number that its rows depend on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT, check, nearest
from assay.errors import ConfigError

Frequency = Literal["hourly", "daily", "weekly", "monthly", "irregular"]
ROWS_PER_ENTITY: dict[Frequency, int] = {"hourly": 2_000, "daily": 500, "weekly": 200, "monthly": 120, "irregular": 20}
DRIFTS = {"level": 0.2, "noise": 2.0, "covariate": 3.0}
# Settings that are the preset's own: of auctions the states and the product groups; and its defaults.
PRESETS: dict[str, dict[str, Any]] = {"auctions": {"frequency": "irregular", "regions": 24, "kinds": 6}}
PRESET_DEFAULTS: dict[str, dict[str, Any]] = {"auctions": {"noise": 0.06}}
FIRST_YEAR, LATEST_END = 1900, "2026-01-01"  # rows of the future would be none of ingest's


@dataclass(frozen=True, config=STRICT)
class DriftConfig:
    """What changes from a date on; a size of None changes nothing.

    level: added to the logarithm of the price.
    noise: factor of the noise's standard deviation.
    covariate: power s by which `condition`, uniform on [0, 1], becomes u ** (1 / s): 3 moves its mean to 0.75.
    start: date; None takes four fifths of the market's time.
    """

    level: Annotated[float, Field(ge=-3, le=3)] | None = None
    noise: Annotated[float, Field(gt=0, le=20)] | None = None
    covariate: Annotated[float, Field(gt=0, le=100)] | None = None
    start: str | None = None


@dataclass(frozen=True, config=STRICT)
class MarketConfig:
    """A synthetic market. Equal configurations give equal rows, however many tasks write them.

    preset: `auctions` has lots of machines at auctions, with columns, days and numbers of them of its own.
    entities: None takes as many as give each a usual number of rows (500 for daily times).
    end: date before which the last time lies; entities are observed until then.
    noise: typical standard deviation of the logarithm of a price, given everything else.
    skew: share of all rows that belong to the first entity, which is observed that much more often; 0 for none.
    missing: share of `size`, `condition`, `grade` and `sales` that is missing, each by itself.
    bad_share: share of rows that break a rule of ingest, each rule equally often.
    leaks: columns that no honest source would have: `target` tells the row's own price, `future` the entity's next one.
    attributes: numeric columns beyond the market's own, `attribute_000` and on, each with an effect on the price.
    """

    rows: Annotated[int, Field(ge=1, le=1_000_000_000)]
    preset: Literal["auctions"] | None = None
    entities: Annotated[int, Field(ge=1)] | None = None
    frequency: Frequency = "daily"
    regions: Annotated[int, Field(ge=1, le=1_000)] = 8
    kinds: Annotated[int, Field(ge=1, le=1_000)] = 4
    end: str = "2025-01-01"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 7
    noise: Annotated[float, Field(gt=0, le=2)] = 0.06
    skew: Annotated[float, Field(ge=0, lt=1)] = 0.0
    missing: Annotated[float, Field(ge=0, lt=1)] = 0.02
    bad_share: Annotated[float, Field(ge=0, le=0.25)] = 0.0
    drift: DriftConfig = DriftConfig()
    leaks: tuple[Literal["target", "future"], ...] = ()
    attributes: Annotated[int, Field(ge=0, le=1_000)] = 0

    @property
    def entity_count(self) -> int:
        """Entities of the market."""
        return self.entities or max(1, self.rows // ROWS_PER_ENTITY[self.frequency])

    @property
    def end_date(self) -> dt.date:
        """`end` as a date."""
        return dt.date.fromisoformat(self.end)

    @property
    def drift_start(self) -> dt.date | None:
        """`drift.start` as a date."""
        return dt.date.fromisoformat(self.drift.start) if self.drift.start else None


def market_config(settings: Mapping[str, Any], *, drift: Sequence[str] = (), drift_from: str | None = None) -> Any:
    """The market that a command line asks for; settings that are None keep their defaults.

    drift: texts such as `level` or `level=0.3`.

    Raises:
        ConfigError: names the option and what it may be.
    """
    tree = {name: value for name, value in settings.items() if value is not None}
    if tree.get("preset") in PRESETS:
        tree = _of_preset(tree)
    tree["drift"] = {**dict(_parsed_drift(text) for text in drift), **({"start": drift_from} if drift_from else {})}
    config: MarketConfig = check(MarketConfig, tree, origin="settings of the market")
    _check(config)
    return config


def _of_preset(tree: dict[str, Any]) -> dict[str, Any]:
    """Settings with those of a preset, which has a say of its own in some of them."""
    name = tree["preset"]
    own = next((key for key in (*PRESETS[name], "entities", "skew") if key in tree), None)
    if own is not None:
        raise ConfigError(f"--{own} {tree[own]}: the preset {name} has its own; leave --{own} out")
    return {**PRESET_DEFAULTS[name], **PRESETS[name], **tree}


def _parsed_drift(text: str) -> tuple[str, float]:
    kind, _, size = text.partition("=")
    if kind not in DRIFTS:
        raise ConfigError(
            f"--drift {text}: there is no drift {kind!r}{nearest(kind, set(DRIFTS)) or '; choose ' + ', '.join(DRIFTS)}"
        )
    try:
        return kind, float(size) if size else DRIFTS[kind]
    except ValueError:
        raise ConfigError(f"--drift {text}: {size!r} is not a number; write it as {kind}={DRIFTS[kind]:g}") from None


def _check(config: MarketConfig) -> None:
    """Refuse contradictions that no single setting shows."""
    for option, date in (("--end", config.end), ("--drift-from", config.drift.start)):
        try:
            dt.date.fromisoformat(date or config.end)
        except ValueError:
            raise ConfigError(f"{option} {date}: not a date; write it as 2024-06-30") from None
    if not f"{FIRST_YEAR}-01-01" < config.end <= LATEST_END:
        raise ConfigError(f"--end {config.end}: expected a date after {FIRST_YEAR}-01-01, up to {LATEST_END}")
    if config.preset is None:
        _check_entities(config)
    if config.drift.start and not (config.drift.level or config.drift.noise or config.drift.covariate):
        raise ConfigError(f"--drift-from {config.drift.start}: nothing changes; say what, such as --drift level=0.2")
    if len(set(config.leaks)) < len(config.leaks):
        raise ConfigError(f"--leak: {', '.join(config.leaks)} names one twice")


def _check_entities(config: MarketConfig) -> None:
    """Refuse numbers of rows and entities that cannot be had together."""
    if config.entity_count > config.rows:
        raise ConfigError(f"--entities {config.entity_count}: more entities than rows ({config.rows}); ask for fewer")
    heavy = round(config.skew * config.rows)
    light = config.entity_count - bool(config.skew)
    if config.skew and (light < 1 or not heavy or config.rows - heavy < light):
        raise ConfigError(
            f"--skew {config.skew:g}: of {config.rows} rows, the first entity would have {heavy} and {light} "
            f"others share {config.rows - heavy}; ask for more rows, or other --entities"
        )
    if config.bad_share and config.rows - heavy < 2 * light:
        raise ConfigError("--bad-share: duplicates need entities with two rows or more; ask for fewer --entities")
