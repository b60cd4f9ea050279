"""Consumes the section `segmentation` of a profile or dataset, produces how entities are put into segments."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT

Column = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class SegmentationConfig:
    """Segments of similar entities, found by K-means on the newest row of each before the test period.

    enabled: whether `pipeline` does it; the job `segment` always does.
    columns: numeric columns of `features` that say what is similar, such as recency, frequency and monetary value; none
        takes the dataset's numeric attributes.
    logarithm: those of them that are looked at as log(1 + value), as money and counts are.
    number: how many segments; 0 takes the number up to `most` with the best silhouette.
    sample_rows: entities to find them on, drawn by a hash.  seed: of the first centres.
    """

    enabled: bool = False
    columns: tuple[Column, ...] = ()
    logarithm: tuple[Column, ...] = ()
    number: Annotated[int, Field(ge=0, le=50)] = 0
    most: Annotated[int, Field(ge=2, le=20)] = 8
    sample_rows: Annotated[int, Field(ge=1_000, le=1_000_000)] = 50_000
    seed: int = 7
