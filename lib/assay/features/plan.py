"""Consumes the run's configuration, produces the feature plan: which columns are built, from what, known when.

The plan is plain data. It is logged with the model, and scoring refuses features that were built by another plan.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from assay.config import RunConfig, canonical_json
from assay.config.dataset import stored_name
from assay.errors import ConfigError
from assay.features.relative import SUFFIX

PLAN_VERSION = 2
OWN = "own"
CALENDAR = (
    *("year", "quarter", "month_of_year", "week_of_year", "day_of_year", "day_of_month", "day_of_week"),
    *("is_weekend", "is_month_start", "is_month_end", "days_in_month", "epoch_days"),
    *("year_sin", "year_cos", "week_sin", "week_cos"),
)
HOLIDAY = ("is_holiday", "days_since_holiday", "days_to_holiday")


@dataclasses.dataclass(frozen=True)
class Feature:
    """One column of the features table: its family, the columns it is made from and the time that it looks back.

    group: label of the market that it describes, for the families of groups.
    """

    name: str
    family: str
    inputs: tuple[str, ...]
    window: str = ""
    group: str | None = None


@dataclasses.dataclass(frozen=True)
class HistoryOf:
    """A column whose past becomes features, and the days after which a value is known."""

    column: str
    delay_days: float


@dataclasses.dataclass(frozen=True)
class FeaturePlan:
    """Everything that building features needs to know. All names are stored names.

    entity: keys of the entity.  groups: label -> columns of a market.  texts: key, group, segment and category columns.
    numeric: attributes used as they are.  categorical: categories used as they are.
    targets: kept as doubles beside the features.  history: columns with history features.
    anchors: targets learned as a change since their last known value.  ratios: targets learned as a logarithm.
    zone: the dataset's own time zone, by which days and months are counted.
    """

    entity: tuple[str, ...]
    texts: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    targets: tuple[str, ...]
    history: tuple[HistoryOf, ...]
    groups: dict[str, tuple[str, ...]]
    lags: tuple[int, ...]
    windows_days: tuple[int, ...]
    statistics: tuple[str, ...]
    momentum_months: tuple[int, ...]
    anchors: tuple[str, ...]
    temporal: bool
    market: bool
    ratios: tuple[str, ...] = ()
    country: str | None = None
    subdivision: str | None = None
    zone: str = "UTC"
    version: int = PLAN_VERSION

    @classmethod
    def of(cls, config: RunConfig) -> FeaturePlan:
        """The plan that the dataset and the profile's flags ask for."""
        dataset, flags = config.dataset, config.training
        advanced = flags.enable_advanced_features
        targets = tuple(stored_name(t.name) for t in dataset.targets)
        names = [t.name for t in dataset.targets] + list(dataset.columns.outcomes)
        plan = cls(
            entity=tuple(stored_name(n) for n in dataset.entity),
            texts=tuple(stored_name(n) for n in dataset.text_columns),
            numeric=tuple(stored_name(n) for n in dataset.columns.numeric),
            categorical=tuple(stored_name(n) for n in dataset.columns.categorical),
            targets=targets,
            history=tuple(HistoryOf(stored_name(n), dataset.delay_days(n)) for n in dict.fromkeys(names)),
            groups=_labelled(dataset.groups),
            lags=tuple(sorted(set(dataset.features.lags))),
            windows_days=tuple(sorted(set(dataset.features.windows_days))),
            statistics=tuple(dataset.features.statistics),
            momentum_months=tuple(sorted(set(dataset.features.market_momentum_months))),
            anchors=tuple(stored_name(t.name) for t in dataset.targets if t.relative_to == "last_value"),
            ratios=tuple(stored_name(t.name) for t in dataset.targets if t.transform == "log"),
            temporal=advanced and flags.enable_temporal_features,
            market=advanced and flags.enable_market_features,
            country=dataset.calendar.country,
            subdivision=dataset.calendar.subdivision,
            zone=dataset.time.zone,
        )
        plan._check_names()
        return plan

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> FeaturePlan:
        """Read back `to_dict`."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in tree.items()}
        plain["history"] = tuple(HistoryOf(**h) for h in tree["history"])
        plain["groups"] = {label: tuple(columns) for label, columns in tree["groups"].items()}
        return cls(**plain)

    @property
    def hash(self) -> str:
        """Identity of the plan."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode()).hexdigest()[:16]

    def own_lags(self, column: str) -> tuple[int, ...]:
        """Lags of the entity's own history of a column; an anchored target always has its last value."""
        lags = self.lags if self.temporal else ()
        return tuple(sorted({*lags, 1})) if column in self.anchors else lags

    def features(self) -> list[Feature]:
        """Every feature in the order of the table's columns."""
        found = [Feature(name, "raw", (name,)) for name in self.numeric]
        found += [Feature(name, "category", (name,)) for name in self.categorical]
        if self.temporal:
            found += [Feature(f"calendar__{part}", "calendar", ("time",)) for part in CALENDAR]
            if self.country:
                found += [Feature(f"calendar__{part}", "calendar", ("time",)) for part in HOLIDAY]
        for item in self.history:
            found += self._history(item.column, OWN, self.own_lags(item.column))
        for label in self.groups:
            for item in self.history:
                found += self._history(item.column, label, self.lags[:1] if self.temporal else ())
            if self.market:
                for target in self.targets:
                    found += self._market(target, label)
        if self.temporal:
            for target in self.anchors:
                sources = _levels_of(target, found)
                found += [Feature(s.name + SUFFIX, "relative", (target,), f"{s.window}, to the last") for s in sources]
        return found

    def anchor(self, target: str) -> str:
        """Feature with the target's last known value."""
        return f"{target}__{OWN}__lag_1"

    def relatives(self, target: str) -> list[str]:
        """Features of an anchored target that are also given relative to its last value."""
        return [
            f.name.removesuffix(SUFFIX) for f in self.features() if f.family == "relative" and f.inputs == (target,)
        ]

    def _check_names(self) -> None:
        """Two columns of one name, which Spark takes to be so whatever their case, would be one column."""
        seen = {name.casefold(): "a column" for name in ("row_id", "time", "month", *self.texts, *self.targets)}
        for feature in self.features():
            kin = seen.get(feature.name.casefold())
            if kin is not None and feature.family != "category":
                raise ConfigError(
                    f"dataset.columns: the {feature.family} feature {feature.name!r} would have the name of {kin} of "
                    "the dataset; rename the column in the source"
                )
            seen[feature.name.casefold()] = f"the {feature.family} feature {feature.name!r}"

    def _history(self, column: str, by: str, lags: tuple[int, ...]) -> list[Feature]:
        family, group = ("history", None) if by == OWN else ("group_history", by)
        found = [Feature(f"{column}__{by}__lag_{k}", family, (column,), f"{k} observations", group) for k in lags]
        if self.temporal:
            found.append(Feature(f"{column}__{by}__age_days", family, (column,), "since the last known value", group))
            for days in self.windows_days:
                for statistic in self.statistics:
                    name = f"{column}__{by}__{statistic}_{days}d"
                    found.append(Feature(name, family, (column,), f"{days} days", group))
        return found

    def _market(self, target: str, label: str) -> list[Feature]:
        windows = {"level": "last whole month", "volume": "last whole month"}
        windows |= {f"momentum_{k}m": f"last whole month against {k} months before" for k in self.momentum_months}
        return [
            Feature(f"{target}__{label}__market_{name}", "market", (target,), window, label)
            for name, window in windows.items()
        ]

    def numeric_features(self) -> list[str]:
        """Names of the float32 features."""
        return [f.name for f in self.features() if f.family != "category"]


def _levels_of(target: str, features: Sequence[Feature]) -> list[Feature]:
    """History of a target in the target's own unit: earlier values, means and market levels."""
    found = []
    for feature in features:
        kind = feature.name.removeprefix(f"{target}__{feature.group or OWN}__")
        if feature.inputs == (target,) and kind.startswith(("lag_", "mean_", "market_level")):
            found.append(feature)
    return [f for f in found if f.name != f"{target}__{OWN}__lag_1"]


def _labelled(groups: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Groups by their label.

    Raises:
        ConfigError: two groups have one label.
    """
    found: dict[str, tuple[str, ...]] = {}
    taken: dict[str, Sequence[str]] = {}
    for group in groups:
        label = group_label(group)
        if label.casefold() in taken:
            raise ConfigError(
                f"dataset.groups: the features of {list(group)} would have the names of those of "
                f"{list(taken[label.casefold()])}; rename a column in the source"
            )
        taken[label.casefold()] = group
        found[label] = tuple(stored_name(name) for name in group)
    return found


def group_label(columns: Sequence[str]) -> str:
    """How a group is called in feature names: its columns joined, or `all` for the whole market."""
    return "+".join(stored_name(c) for c in columns) or "all"
