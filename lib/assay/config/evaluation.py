"""Consumes the section `evaluation` of a profile or dataset, produces how results are cut, compared and acted upon."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT

Share = Annotated[float, Field(gt=0, lt=1)]
Column = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class ClustersConfig:
    """Segments of similar rows, found by K-means on rows before the test period.

    number: how many; 0 takes the number up to `most` with the best silhouette, 1 does without.
    columns: numeric columns of `features` that say what is similar; none takes the dataset's numeric attributes, or the
        inputs that the model goes by most where it has fewer than two.
    sample_rows: rows to find them on, drawn by a hash of `row_id`.
    """

    number: Annotated[int, Field(ge=0, le=50)] = 0
    most: Annotated[int, Field(ge=2, le=20)] = 6
    columns: tuple[Column, ...] = ()
    sample_rows: Annotated[int, Field(ge=1_000, le=1_000_000)] = 50_000


@dataclass(frozen=True, config=STRICT)
class EvaluationConfig:
    """What `evaluate` looks at beside the dataset's segments.

    segments: further columns of `features` to split results by; numbers are cut at quartiles of rows before the test.
    price_bands: how many bands of the prediction, equally full before the test period; 1 does without.
    clusters: segments of similar rows.
    window_days: of rolling coverage.
    slab_share: least share of rows in the worst slab.
    false_discovery_rate: among segments called off their promise, the share that may be so by chance.
    standard_level, high_stakes_level: coverage at which a row is judged where little or much is at stake; the nearest
        one of `conformal.levels` is taken.
    act_width, review_width: interval width over the prediction up to which one acts on it, and up to which a person
        looks at it; wider ones are left undecided.
    sample_rows: most evaluated rows that figures of single rows (plots, worst slab, rows kept) are drawn from, by a
        hash of `row_id`; all other figures are of all rows. Up to so many rows medians are exact, beyond to 0.1 % of
        themselves.
    """

    segments: tuple[Column, ...] = ()
    price_bands: Annotated[int, Field(ge=1, le=50)] = 5
    clusters: ClustersConfig = ClustersConfig()
    window_days: Annotated[int, Field(ge=1, le=3_650)] = 28
    slab_share: Annotated[float, Field(ge=0.01, le=0.5)] = 0.10
    false_discovery_rate: Share = 0.05
    standard_level: Share = 0.8
    high_stakes_level: Share = 0.9
    act_width: Annotated[float, Field(gt=0)] = 0.5
    review_width: Annotated[float, Field(gt=0)] = 1.0
    sample_rows: Annotated[int, Field(ge=1_000, le=5_000_000)] = 200_000
