"""Consumes the rows that may teach a scale and those that calibrate, produces the kind of score, and the scale.

Which rows those are is `conformal.scale_from`: rows that the model learned from, of which the outcomes teach how far
apart such ones lie, or the oldest of the calibration rows, of which the errors do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.config.conformal import ConformalConfig
from assay.conformal.blocks import Block, ScoredBlock, together
from assay.conformal.calibration import Calibration
from assay.conformal.choice import FREE_MARGIN, MARGIN, relative_interval_score
from assay.conformal.conformity import BEST, ERRORS_APART, OUTCOMES_APART, ErrorRows, Older, OutcomeRows
from assay.conformal.difficulty import LEAST_ROWS, Difficulty
from assay.conformal.scores import AbsoluteResidual, NormalisedResidual
from assay.conformal.unpriced import split_apart
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.encoding import Matrix
from assay.model.row_sample import sample_threshold
from assay.runtime.conditions import period_conditions
from assay.runtime.plane import Flow

SCALE_ROWS = 50_000  # most rows that a scale is learned from; more tell it little
TAUGHT = ("train", "tune")  # periods that the model learned from
JUDGED = 0.5  # of the calibration rows, the newest, which say whether a scale of outcomes is worth its time


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A kind of score. difficulty: the scale of normalised ones.  older: rows that it was learned from, of those that
    would calibrate.  told: of what it was chosen for; empty where there was no choice.  lacking: why what was asked for
    could not be had."""

    kind: str = AbsoluteResidual.name
    difficulty: Difficulty | None = None
    older: Older | None = None
    told: str = ""
    lacking: str = ""


@dataclasses.dataclass(frozen=True)
class ScaleStage:
    """How scores of a number get their scale.

    earlier: the model that did not learn from the calibration period.  blocks: of that period.
    labelled: block -> its rows with known outcomes.  scored: the same with scores of a kind and a scale.
    fitted: rows of `SCORED` and their kind -> calibration.
    """

    config: ConformalConfig
    earlier: Model
    blocks: Sequence[Block]
    labelled: Callable[[Block], Flow]
    scored: Callable[[Block, str, Difficulty | None], ScoredBlock]
    fitted: Callable[[pa.Table, str], Calibration]

    def chosen(self, kind: str) -> Chosen:
        """The score that is asked for, `normalised` or `BEST`, or absolute scores where nothing can teach a scale."""
        absolute = self.all_scored(AbsoluteResidual.name, None)
        return (self.of_outcomes if self.config.scale_from == "outcomes" else self.of_errors)(kind, absolute)

    def of_outcomes(self, kind: str, absolute: pa.Table) -> Chosen:
        """With a scale of outcomes, if it is worth its time."""
        scale = self.apart()
        if scale is None:
            return Chosen(lacking=f"periods {' and '.join(TAUGHT)} have fewer than {LEAST_ROWS} rows")
        if kind != BEST:
            return Chosen(kind, scale)
        return self.better(absolute, self.all_scored(NormalisedResidual.name, scale), scale, JUDGED, FREE_MARGIN)

    def of_errors(self, kind: str, absolute: pa.Table) -> Chosen:
        """With a scale of errors, if it is worth the rows that it takes."""
        older = Older.of(absolute, self.config.scale_share, drawn=self.earlier.drawn)
        count = absolute.num_rows - older.without(absolute).num_rows
        if count < LEAST_ROWS:
            return Chosen(lacking=f"{count} of {absolute.num_rows:,} calibration rows are set apart for it")
        scale = self.of_sample(older, count)
        if kind != BEST:
            return Chosen(kind, scale, older)
        normalised = older.without(self.all_scored(NormalisedResidual.name, scale))
        found = self.better(absolute, normalised, scale, (1.0 - older.share) / 2.0, MARGIN)
        return dataclasses.replace(found, older=older) if found.difficulty is not None else found

    def better(
        self, absolute: pa.Table, normalised: pa.Table, scale: Difficulty, judged: float, margin: float
    ) -> Chosen:
        """The scale, if intervals of the newest rows are better by more than the margin. judged: their share of all."""
        until = Older.of(absolute, 1.0 - judged, drawn=self.earlier.drawn)
        ratio = relative_interval_score(absolute, normalised, until, self.fitted)
        told = f": on the newest of them, a scale per row changes the interval score by {ratio - 1:+.1%}"
        return Chosen(NormalisedResidual.name, scale, told=told) if ratio < 1.0 - margin else Chosen(told=told)

    def all_scored(self, kind: str, scale: Difficulty | None) -> pa.Table:
        """Rows of `SCORED` of all blocks."""
        return together([self.scored(block, kind, scale) for block in self.blocks])

    def apart(self) -> Difficulty | None:
        """The scale of outcomes, of a sample of the rows that the earliest model learned from; None of too few."""
        split, encoding = self.earlier.facts["split"], self.earlier.encoding
        known = [split[period] for period in TAUGHT if period in split]
        threshold = sample_threshold(sum(int(period["rows"]) for period in known), SCALE_ROWS)
        kernel = OutcomeRows(Carried.of(self.earlier), encoding, threshold)
        periods = [Block(TAUGHT[0], 1, self.earlier, period_conditions(period)) for period in known]
        rows = _priced(self.labelled(period).map(kernel, OUTCOMES_APART) for period in periods)
        rows = rows.filter(pc.is_finite(rows.column("outcome"))).sort_by("row_id")
        if rows.num_rows < LEAST_ROWS:
            return None
        types = encoding.feature_types
        return Difficulty.learned_apart(
            _inputs(rows, len(types)), rows.column("outcome").to_numpy(), types, encoding=encoding
        )

    def of_sample(self, older: Older, count: int) -> Difficulty:
        """The scale of errors, of a sample of the rows that are set apart; count: how many those are."""
        encoding, threshold = self.earlier.encoding, sample_threshold(count, SCALE_ROWS)
        rows = _priced(
            self.labelled(block).map(ErrorRows(Carried.of(block.model), encoding, older, threshold), ERRORS_APART)
            for block in self.blocks
        )
        types = encoding.feature_types
        return Difficulty.learned(_inputs(rows, len(types)), rows.column("error").to_numpy(), types, encoding=encoding)


def _priced(flows: Iterable[Flow]) -> pa.Table:
    """Rows of all flows; those without a price are told of where they are scored."""
    return split_apart(pa.concat_tables(flow.collect() for flow in flows))[0]


def _inputs(rows: pa.Table, width: int) -> Matrix:
    return np.asarray(rows.column("inputs").combine_chunks().flatten().to_numpy().reshape(-1, width))
