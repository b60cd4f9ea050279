"""Consumes the training period, produces inputs that are ready: cleaned, transformed and chosen, fitted on it alone.

Three passes over the training rows at most, each of which sends a few arrays per task to the driver: ranges and a
sample; means of clipped inputs, where missing values become means or rows were left out; moments of imputed inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.config.dataset import stored_name
from assay.config.preparation import PreparationConfig
from assay.config.strict import nearest
from assay.errors import ConfigError, DataError
from assay.model.encoding import Encoding
from assay.model.preparation import Components, Preparation
from assay.model.scale import Floats, TargetScale
from assay.training.preparation_impute import fit_imputers
from assay.training.preparation_moments import Grid, Moments, measure
from assay.training.preparation_outliers import Teachable, bounds, fit_forest, teachable
from assay.training.preparation_sample import Sample, TrainingRows, survey
from assay.training.selection import Scored, select


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What training works with.

    encoding: inputs, fitted on the train period.  again: the same inputs, fitted on train and tune together, for a
    model that is fitted again on both; None where there is no such or nothing is prepared.
    teaches: kernel that leaves outliers out of what is trained on, or None.
    selection: every input with its score, best first; empty where nothing was chosen.  facts: what was found, for the
    record.
    """

    encoding: Encoding
    again: Encoding | None = None
    teaches: Teachable | None = None
    selection: Sequence[Scored] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the record."""
        found = {"training_rows_removed": float(self.facts["rows_removed"])} if self.teaches is not None else {}
        return found | ({"features_selected": float(len(self.encoding.features))} if self.selection else {})


def check_columns(config: PreparationConfig, encoding: Encoding) -> None:
    """Refuse settings of columns that are no numeric input.

    Raises:
        ConfigError: names the setting and the nearest input.
    """
    told = [
        *((f"preparation.outliers.bounds.{name}", name) for name in config.outliers.bounds),
        *((f"preparation.outliers.columns: {name!r}", name) for name in config.outliers.columns),
        *((f"preparation.impute.columns.{name}", name) for name in config.impute.columns),
    ]
    for where, name in told:
        if stored_name(name) in encoding.categories:
            raise ConfigError(f"{where}: this input is a category; only numbers are prepared")
        if stored_name(name) not in encoding.numeric:
            raise ConfigError(f"{where}: there is no such numeric input{nearest(name, encoding.numeric)}")


def prepare(
    config: PreparationConfig,
    encoding: Encoding,
    scale: TargetScale,
    train: TrainingRows,
    both: TrainingRows | None,
    *,
    seed: int,
) -> Prepared:
    """Fit everything that the section `preparation` asks for.

    encoding: inputs as they come.  both: rows of train and tune, where the model will be fitted again on them. What is
    chosen on train (inputs, components, indicators, rows left out) stays; only its numbers are fitted again.
    """
    check_columns(config, encoding)
    if not config.active:
        return Prepared(encoding)
    fit = _Fit(config, encoding, scale, train, seed)
    preparation = fit.preparation() if config.transforms else None
    chosen, selection = _chosen(config, encoding, preparation, fit.sample, seed)
    facts = fit.facts(preparation)
    if preparation is not None and chosen.numeric:
        chosen = dataclasses.replace(chosen, preparation=preparation.narrowed(chosen.numeric))
    prepared = Prepared(chosen, None, fit.teaches, selection, facts)
    if chosen.preparation is None or both is None:
        return prepared
    return dataclasses.replace(prepared, again=prepare_again(config, prepared, encoding, scale, both, seed=seed))


def prepare_again(
    config: PreparationConfig,
    prepared: Prepared,
    encoding: Encoding,
    scale: TargetScale,
    rows: TrainingRows,
    *,
    seed: int,
) -> Encoding:
    """The inputs that an earlier fit chose, with the categories and the numbers of other rows.

    encoding: inputs of those rows as they come.
    """
    chosen = prepared.encoding
    known = {name: encoding.categories[name] for name in chosen.categories}
    chosen = dataclasses.replace(chosen, categories=known, seen=encoding.seen)
    if chosen.preparation is None:
        return chosen
    rest = dataclasses.replace(encoding, numeric=chosen.preparation.columns)
    second = _Fit(config, rest, scale, rows, seed, teaches=prepared.teaches, like=chosen.preparation)
    return dataclasses.replace(chosen, preparation=second.preparation())


def _chosen(
    config: PreparationConfig, encoding: Encoding, preparation: Preparation | None, sample: Sample, seed: int
) -> tuple[Encoding, list[Scored]]:
    """The inputs that the model gets, still without their preparation."""
    numbers = preparation.outputs if preparation is not None else encoding.numeric
    if not config.selection.active:
        return dataclasses.replace(encoding, numeric=numbers), []
    rows = sample.matrix[: config.selection.sample_rows]
    prepared = (
        rows[:, : len(encoding.numeric)] if preparation is None else preparation.apply(rows[:, : len(encoding.numeric)])
    )
    matrix = np.hstack([prepared.astype(np.float32), rows[:, len(encoding.numeric) :]])
    names = [*numbers, *encoding.categories]
    target = sample.target[: len(rows)]
    scored = select(config.selection, names, len(encoding.categories), matrix, target, seed=seed)
    kept = {one.name for one in scored if one.kept}
    numeric = tuple(name for name in numbers if name in kept)
    categories = {name: known for name, known in encoding.categories.items() if name in kept}
    return Encoding(numeric, categories, seen=encoding.seen), scored


class _Fit:
    """One fit of a preparation, step by step, in the order in which it will be replayed."""

    def __init__(
        self,
        config: PreparationConfig,
        encoding: Encoding,
        scale: TargetScale,
        rows: TrainingRows,
        seed: int,
        *,
        teaches: Teachable | None = None,
        like: Preparation | None = None,
    ) -> None:
        """teaches, like: what an earlier fit chose."""
        self.config = config
        self.rows = rows
        self.like = like
        self.seed = seed
        self.columns = encoding.numeric
        self.categories = tuple(encoding.categories)
        self.named = {name: i for i, name in enumerate(self.columns)}
        looked_at = {stored_name(name) for name in config.outliers.columns} or set(self.columns)
        self.looked_at = np.array([name in looked_at for name in self.columns], dtype=np.bool_)
        cap = max(config.sample_rows, config.selection.sample_rows)
        self.teaches = teaches
        self.sample = survey(rows, encoding, scale, cap=cap, first=teaches)
        if like is None:
            self.teaches = teachable(config.outliers, self.columns, self.looked_at, self.sample, seed)
        if like is None and self.teaches is not None:
            self.sample = self.sample.where(self.teaches.keep(self.sample.numbers))
        if not len(self.sample.target):
            raise DataError(
                "preparation.outliers leaves no training row, as each has an outlier somewhere: allow more in "
                "preparation.outliers, or name fewer columns in preparation.outliers.columns"
            )
        self.measured: Moments | None = None

    def preparation(self) -> Preparation:
        """All steps, each fitted on what the ones before it make of the training rows."""
        found = self._looking()
        found = self._clipping(found)
        found = self._imputing(found)
        found = self._scaling(found)
        names = [*found.outputs, *self.categories]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"preparation would make a second input of the name {twice!r}; rename that column")
        return found

    def facts(self, preparation: Preparation | None) -> dict[str, Any]:
        """What was found, as plain data."""
        found: dict[str, Any] = {"rows": self.rows.rows, "sample_rows": len(self.sample.target)}
        if self.measured is not None:
            found["rows_removed"] = self.rows.rows - self.measured.rows
        if preparation is not None:
            found["outputs"] = list(preparation.outputs)
        if preparation is not None and preparation.components is not None:
            found["components_variance"] = preparation.components.variance.tolist()
        return found

    def _looking(self) -> Preparation:
        """What looks at values as they come."""
        gives = self.config.outliers.isolation_forest
        missing: tuple[str, ...] = ()
        if self.config.impute.indicators:
            fewer = self.sample.known < self.sample.rows
            missing = tuple(name for name, some in zip(self.columns, fewer, strict=True) if some)
        if self.like is not None:
            missing = self.like.missing
        wanted = self.like is None or self.like.forest is not None
        forest = fit_forest(self.config.outliers, self.sample, self.seed) if gives in FOREST_GIVES and wanted else None
        return Preparation(self.columns, missing, forest, gives if forest is not None else "flag")

    def _clipping(self, found: Preparation) -> Preparation:
        settings = self.config.outliers
        named = {self.named[stored_name(name)]: pair for name, pair in settings.bounds.items() if self._has(name)}
        low, high = bounds(settings, named, self.looked_at, self.sample.numbers.astype(np.float64))
        return dataclasses.replace(found, low=low, high=high)

    def _imputing(self, found: Preparation) -> Preparation:
        settings = self.config.impute
        given = {stored_name(name): rule for name, rule in settings.columns.items()}
        rules = [given.get(name) or settings.otherwise for name in self.columns]
        sample = found.cleaned(self.sample.numbers.astype(np.float64))
        means = None
        if self.teaches is not None or any(rule.method == "mean" for rule in rules):
            means = self._measure(found, *self._range(found), sample).mean
        fill, joint = fit_imputers(settings, rules, sample, means)
        return dataclasses.replace(found, fill=fill, joint=joint)

    def _scaling(self, found: Preparation) -> Preparation:
        scaling, pca = self.config.scaling, self.config.pca
        if scaling == "none" and not pca.enabled:
            return found
        sample = found.cleaned(self.sample.numbers.astype(np.float64))
        if scaling == "robust":
            known = [column[~np.isnan(column)] for column in sample.T]
            quartiles = np.array([np.quantile(v, [0.25, 0.5, 0.75]) if len(v) else [0, 0, 0] for v in known])
            quartiles = quartiles.reshape(len(known), 3)
            found = _scaled(found, quartiles[:, 1], quartiles[:, 2] - quartiles[:, 0])
        if scaling != "robust" or pca.enabled:
            moments = self._measure(found, *self._range(found), sample, products=pca.enabled)
            if scaling == "standard":
                found = _scaled(found, moments.mean, np.sqrt(moments.variance))
            elif scaling == "minmax":
                found = _scaled(found, moments.low, moments.high - moments.low)
            if pca.enabled:
                count = len(self.like.components.axes) if self.like is not None and self.like.components else None
                components = principal(found, moments, share=pca.variance, count=count)
                found = dataclasses.replace(found, components=components, keeps_columns=pca.keep_columns)
        return found

    def _range(self, found: Preparation) -> tuple[Floats, Floats]:
        """Lowest and highest value (p,) that clipping and imputing can give a training row."""
        low, high = found.cleaned(np.vstack([self.sample.low, self.sample.high]))
        used = self.sample.known > 0
        low, high = np.where(used, low, np.inf), np.where(used, high, -np.inf)
        if found.fill is not None:
            low, high = np.fmin(low, found.fill), np.fmax(high, found.fill)
        for imputer in found.joint:
            ends = imputer.range
            low[imputer.positions] = np.fmin(low[imputer.positions], ends[0])
            high[imputer.positions] = np.fmax(high[imputer.positions], ends[1])
        return low, high

    def _measure(
        self, found: Preparation, low: Floats, high: Floats, sample: Floats, *, products: bool = False
    ) -> Moments:
        known = ~np.isnan(sample)
        near = np.where(known, sample, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        grid = Grid.over(low, high, near=near)
        self.measured = measure(self.rows, found, grid, products=products, first=self.teaches)
        return self.measured

    def _has(self, name: str) -> bool:
        return stored_name(name) in self.named


FOREST_GIVES = ("flag", "score")


def _scaled(found: Preparation, centre: Floats, spread: Floats) -> Preparation:
    """With this scaling; columns without values or without spread are only moved."""
    centre = np.where(np.isfinite(centre), centre, 0.0)
    spread = np.where(np.isfinite(spread) & (spread > 0), spread, 1.0)
    return dataclasses.replace(found, centre=centre, spread=spread)


def principal(found: Preparation, moments: Moments, *, share: float, count: int | None) -> Components:
    """Principal components of scaled inputs from their moments.

    count: how many; None takes as many as hold more than `share` of the variance. The entry of an axis that is largest
    in size is positive.
    """
    assert moments.covariance is not None
    centre = found.centre if found.centre is not None else np.zeros(len(moments.mean))
    spread = found.spread if found.spread is not None else np.ones(len(moments.mean))
    rows = moments.rows
    covariance = moments.covariance / np.outer(spread, spread) * (rows / max(rows - 1, 1))
    variance, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    variance, axes = np.maximum(variance[::-1], 0.0), vectors.T[::-1]
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.where(axes[np.arange(len(axes)), largest] < 0, -1.0, 1.0)[:, None]
    if count is None:
        total = variance.sum()
        shares = np.cumsum(variance / total) if total > 0 else np.ones(len(variance))
        count = min(int(np.searchsorted(shares, share, side="right")) + 1, len(variance))
    return Components((moments.mean - centre) / spread, np.ascontiguousarray(axes[:count]), variance[:count])
