"""Consumes the run's configuration, produces the feature plan: what features are made from, and when that is known.

The plan is plain data. It is logged with the model, and scoring refuses features that were built by another plan.
`catalog` lists the features that a plan asks for.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from assay import extensions
from assay.config import RunConfig, canonical_json
from assay.config.dataset import CalendarConfig, stored_name
from assay.config.features import FeaturesConfig
from assay.errors import ConfigError

PLAN_VERSION = 3
OWN = "own"


@dataclasses.dataclass(frozen=True)
class Feature:
    """One column of the features table.

    family: which module builds it.  inputs: columns of `observations` that it is made from.  window: the time that it
    looks back, in words.  group: label of the market that it describes.  cost: cheap, sums (running sums of the
    past) or scan (a pass over the past of its own).
    """

    name: str
    family: str
    inputs: tuple[str, ...]
    window: str = ""
    group: str | None = None
    cost: str = "cheap"


@dataclasses.dataclass(frozen=True)
class HistoryOf:
    """A column whose past becomes features, and the days after which a value is known (the horizon counted in)."""

    column: str
    delay_days: float


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A target made from a number of the same row: 1 where `column` is above, 0 where not, null where unknown.

    above: a number, or None for the entity's last known value.
    """

    name: str
    column: str
    above: float | None = None


@dataclasses.dataclass(frozen=True)
class FeaturePlan:
    """Everything that building features needs to know. All names are stored names.

    entity: keys of the entity.  groups: label -> columns of a market.  texts: key, group, segment and category columns.
    encoding_groups: labels of groups that are there for target encoding alone.
    numeric: attributes used as they are.  categorical: categories used as they are.
    targets: numbers kept as doubles beside the features.  history: columns with history features.
    codes: targets of several classes, kept as doubles too; they have no history.  thresholds: targets made here.
    anchors: targets learned as a change since their last known value.  ratios: targets learned as a logarithm.
    settings: the dataset's section `features`.  temporal, market, interactions: families that the flags switch on.
    zone: the dataset's own time zone, by which days and months are counted.
    families: of extensions: name -> module that has it, and the hash of that.
    """

    entity: tuple[str, ...]
    texts: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    targets: tuple[str, ...]
    history: tuple[HistoryOf, ...]
    groups: dict[str, tuple[str, ...]]
    anchors: tuple[str, ...]
    temporal: bool
    market: bool
    interactions: bool = False
    settings: FeaturesConfig = dataclasses.field(default_factory=FeaturesConfig)
    ratios: tuple[str, ...] = ()
    calendar: CalendarConfig = dataclasses.field(default_factory=CalendarConfig)
    zone: str = "UTC"
    encoding_groups: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    families: dict[str, str] = dataclasses.field(default_factory=dict)
    version: int = PLAN_VERSION

    @classmethod
    def of(cls, config: RunConfig) -> FeaturePlan:
        """The plan that the dataset and the profile's flags ask for."""
        dataset, flags, groups = config.dataset, config.training, config.dataset.groups
        advanced = flags.enable_advanced_features
        targets = [t for t in dataset.observed_targets if t.task != "multiclass"]
        names = [t.name for t in targets] + list(dataset.columns.outcomes)
        ahead = dataset.features.horizon_days
        advanced = advanced and dataset.time.dated  # rows without a time have no history, and know of no other row
        temporal = advanced and flags.enable_temporal_features
        encoded = dataset.features.target_encoding.columns if temporal else ()
        own = [group for group in (*((name,) for name in encoded), *([()] if encoded else [])) if group not in groups]
        return cls(
            entity=tuple(stored_name(n) for n in dataset.entity),
            texts=tuple(stored_name(n) for n in dataset.text_columns),
            numeric=tuple(stored_name(n) for n in dataset.columns.numeric),
            categorical=tuple(stored_name(n) for n in dataset.columns.categorical),
            targets=tuple(stored_name(t.name) for t in targets),
            history=tuple(HistoryOf(stored_name(n), dataset.delay_days(n) + ahead) for n in dict.fromkeys(names)),
            groups=_labelled([*groups, *own]),
            anchors=tuple(stored_name(t.name) for t in dataset.targets if t.relative_to == "last_value"),
            ratios=tuple(stored_name(t.name) for t in dataset.targets if t.transform == "log"),
            temporal=temporal,
            market=advanced and flags.enable_market_features,
            interactions=advanced and flags.enable_interaction_features,
            settings=_stored(dataset.features),
            calendar=dataset.calendar,
            zone=dataset.time.zone,
            encoding_groups=tuple(group_label(group) for group in own),
            codes=tuple(stored_name(t.name) for t in dataset.targets if t.task == "multiclass"),
            thresholds=tuple(
                Threshold(stored_name(t.name), stored_name(t.observed), None if isinstance(t.above, str) else t.above)
                for t in dataset.targets
                if t.derived
            ),
            families={name: extensions.get("features", name).told for name in dataset.features.families},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON. What only classes and extensions need is left out where there are none of them."""
        tree = dataclasses.asdict(self)
        if not tree["settings"]["families"]:
            del tree["settings"]["families"]
        return {name: value for name, value in tree.items() if value or name not in {"codes", "thresholds", "families"}}

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> FeaturePlan:
        """Read back `to_dict`."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in tree.items()}
        plain["history"] = tuple(HistoryOf(**h) for h in tree["history"])
        plain["thresholds"] = tuple(Threshold(**one) for one in tree.get("thresholds", ()))
        plain["groups"] = {label: tuple(columns) for label, columns in tree["groups"].items()}
        plain["settings"] = FeaturesConfig(**tree["settings"])
        plain["calendar"] = CalendarConfig(**tree["calendar"])
        return cls(**plain)

    @property
    def hash(self) -> str:
        """Identity of the plan."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode()).hexdigest()[:16]

    @property
    def markets(self) -> tuple[str, ...]:
        """Labels of the groups that the dataset names."""
        return tuple(label for label in self.groups if label not in self.encoding_groups)

    def own_lags(self, column: str) -> tuple[int, ...]:
        """Lags of the entity's own history of a column; what is compared with its last value always has that."""
        lags = {*self.settings.lags, *range(1, self.settings.lookback + 1)} if self.temporal else set()
        needed = (1,) if column in self.anchors or any(column == t.column for t in self.compared) else ()
        return tuple(sorted({*lags, *needed}))

    @property
    def compared(self) -> tuple[Threshold, ...]:
        """Targets made by comparing with the last known value."""
        return tuple(threshold for threshold in self.thresholds if threshold.above is None)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every column that is kept as a double beside the features."""
        return (*self.targets, *self.codes, *(threshold.name for threshold in self.thresholds))

    def anchor(self, target: str) -> str:
        """Feature with the target's last known value."""
        return f"{target}__{OWN}__lag_1"

    @property
    def group_step_us(self) -> int:
        """Microseconds of the step at whose start groups are looked at."""
        return 3_600_000_000 if self.settings.group_step == "1h" else 86_400_000_000

    @property
    def oldest_us(self) -> int | None:
        """Microseconds after which a value is forgotten."""
        days = self.settings.max_history_days
        return None if days is None else days * 86_400_000_000


def _stored(settings: FeaturesConfig) -> FeaturesConfig:
    """The same settings with stored names for columns."""

    def names(columns: Sequence[str]) -> tuple[str, ...]:
        return tuple(stored_name(name) for name in columns)

    chosen, encoding = settings.interactions, settings.target_encoding
    pairs = tuple((stored_name(one), stored_name(other)) for one, other in chosen.pairs)
    return dataclasses.replace(
        settings,
        technical=names(settings.technical),
        forward_fill=names(settings.forward_fill),
        interactions=dataclasses.replace(chosen, columns=names(chosen.columns), pairs=pairs),
        target_encoding=dataclasses.replace(encoding, columns=names(encoding.columns)),
    )


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
