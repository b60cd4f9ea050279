"""Consumes the `preparation` section of a profile, produces `PreparationConfig`: how numeric inputs are made ready."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT

Column = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Quantile = Annotated[float, Field(ge=0, le=1)]
Rows = Annotated[int, Field(ge=10, le=10_000_000)]
ImputeMethod = Literal["keep", "mean", "median", "most_frequent", "constant", "knn", "iterative"]


@dataclass(frozen=True, config=STRICT)
class ImputeRule:
    """What replaces a column's missing values. value: of `constant`; 0 where none is given."""

    method: ImputeMethod
    value: float | None = None


@dataclass(frozen=True, config=STRICT)
class ImputeConfig:
    """Missing and infinite values of numeric inputs.

    default: method of every column that `columns` does not name; `keep` leaves them to the trees.
    value: of the default method `constant`.
    indicators: adds `<column>__missing` (0 or 1) for each column with missing values in training.
    neighbours, neighbour_rows: `knn` averages so many nearest rows of a sample of so many.
    iterations, iterative_rows: `iterative` makes at most so many rounds, fitted on a sample of so many rows.
    """

    default: ImputeMethod = "keep"
    value: float = 0.0
    columns: dict[Column, ImputeRule] = Field(default_factory=dict)
    indicators: bool = False
    neighbours: Annotated[int, Field(ge=1, le=1000)] = 5
    neighbour_rows: Rows = 2_000
    iterations: Annotated[int, Field(ge=1, le=100)] = 10
    iterative_rows: Rows = 10_000

    @property
    def otherwise(self) -> ImputeRule:
        """The rule of columns that have none of their own."""
        return ImputeRule(self.default, self.value if self.default == "constant" else None)


@dataclass(frozen=True, config=STRICT)
class OutliersConfig:
    """Values and rows far from the others.

    bounds: column -> [lowest, highest] value; what lies outside is set to the bound.
    winsorize: two quantiles of the training period, such as [0.01, 0.99]; what lies outside is set to them.
    remove: leaves training rows out that have a value more than `zscore` standard deviations from the mean, or more
        than `iqr` interquartile ranges outside of the quartiles. Rows to be scored are never removed.
    columns: what `winsorize` and `remove` look at; empty means every numeric input.
    isolation_forest: `flag` adds an input that is 1 for rows which stand alone, `score` adds their anomaly score,
        `remove` leaves flagged rows out of training. trees, contamination: its size and the share it flags.
    """

    bounds: dict[Column, tuple[float, float]] = Field(default_factory=dict)
    winsorize: tuple[Quantile, Quantile] | None = None
    remove: Literal["none", "zscore", "iqr"] = "none"
    zscore: Annotated[float, Field(gt=0)] = 4.0
    iqr: Annotated[float, Field(gt=0)] = 3.0
    columns: tuple[Column, ...] = ()
    isolation_forest: Literal["none", "flag", "score", "remove"] = "none"
    trees: Annotated[int, Field(ge=1, le=10_000)] = 100
    contamination: Annotated[float, Field(gt=0, le=0.5)] = 0.01


@dataclass(frozen=True, config=STRICT)
class PcaConfig:
    """Principal components. variance: share that they keep together. keep_columns: beside the inputs, not instead."""

    enabled: bool = False
    variance: Share = 0.95
    keep_columns: bool = False


@dataclass(frozen=True, config=STRICT)
class SelectionConfig:
    """Which prepared inputs the model gets; scored on a sample of `sample_rows` training rows.

    method: `importance` is the gain in a quick XGBoost fit; `correlation` (Pearson's, absolute) and `spearman` leave
        categories in; `mutual_information` is scikit-learn's, with missing values at their median.
    max_features: keep so many of the best.  min_score: keep only what scores above it.
    min_variance: drop numeric inputs whose variance is not above it.
    max_correlation: of two inputs that are correlated more than this, drop the one with the lower score.
    """

    method: Literal["none", "importance", "correlation", "spearman", "mutual_information"] = "none"
    max_features: Annotated[int, Field(ge=1)] | None = None
    min_score: Annotated[float, Field(ge=0)] = 0.0
    min_variance: Annotated[float, Field(ge=0)] | None = None
    max_correlation: Annotated[float, Field(gt=0, le=1)] | None = None
    sample_rows: Rows = 20_000

    @property
    def active(self) -> bool:
        """Whether anything may be dropped."""
        return self.method != "none" or self.min_variance is not None or self.max_correlation is not None


@dataclass(frozen=True, config=STRICT)
class PreparationConfig:
    """Cleaning and transforms of numeric inputs, in this order: outliers, missing values, scaling, PCA, selection.

    All of it is fitted on training time alone, kept with the model and replayed wherever it predicts.
    sample_rows: quantiles, medians and forests are those of a sample of at most so many training rows, drawn by a hash
        of `row_id`; means, extremes and moments are those of all rows.
    """

    outliers: OutliersConfig = OutliersConfig()
    impute: ImputeConfig = ImputeConfig()
    scaling: Literal["none", "standard", "minmax", "robust"] = "none"
    pca: PcaConfig = PcaConfig()
    selection: SelectionConfig = SelectionConfig()
    sample_rows: Rows = 200_000

    @property
    def active(self) -> bool:
        """Whether anything is on."""
        return self.transforms or self.selection.active

    @property
    def transforms(self) -> bool:
        """Whether values change, inputs are added or training rows left out."""
        outliers, impute = self.outliers, self.impute
        return (
            bool(outliers.bounds)
            or outliers.winsorize is not None
            or outliers.remove != "none"
            or outliers.isolation_forest != "none"
            or impute.default != "keep"
            or any(rule.method != "keep" for rule in impute.columns.values())
            or impute.indicators
            or self.scaling != "none"
            or self.pca.enabled
        )
