"""Consumes the labelled rows of a run, produces folds: rows that trials learn from, and later ones that judge them.

Nothing here touches the periods that calibrate and test.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence

from assay.config.profile import EngineConfig, SplitConfig
from assay.model.row_sample import EVERY_ROW, ROW, SampleRows, sample_threshold
from assay.runtime.plane import Flow
from assay.training.drawing import drawn_folds, spread_of
from assay.training.preparation import Prepared
from assay.training.rows import LabelledRows
from assay.training.split import Split, together
from assay.training.validation import Fold, rolling_origin
from assay.training.weights import TimeDecay, Weights


def folds_of(
    rows: LabelledRows,
    split: Split,
    times: Mapping[dt.datetime, int],
    config: SplitConfig,
    *,
    folds: int,
    label_delay_days: float,
    by: str | None = None,
) -> list[Fold]:
    """One fold is the split's own: train, judged by tune. More move forward over train and tune together, or are drawn.

    by: column of the classes of which drawn folds are to have equal shares.

    Raises:
        DataError: too few rows or times for so many.
    """
    if folds == 1:
        return [Fold(split.train, split.tune)]
    if split.train.drawn is not None:
        both = together([split.train, split.tune])
        return drawn_folds(spread_of(rows, times, by, both), both, folds)
    seen = [time for time in times if time <= split.tune.last]
    gap = dt.timedelta(days=max(config.embargo_days, label_delay_days))
    return rolling_origin(seen, [times[time] for time in seen], folds=folds, share=config.tune, gap=gap)


@dataclasses.dataclass(frozen=True)
class FoldRows:
    """The flows of folds. sample_rows: most that teach.  columns: that the engine needs besides inputs and target.

    screens: some trials learn from a part of the rows.
    """

    rows: LabelledRows
    folds: Sequence[Fold]
    engine: EngineConfig
    sample_rows: int
    columns: Sequence[str] = ()
    screens: bool = False

    @property
    def weights(self) -> list[Weights | None]:
        """Per fold, what rows count that teach."""
        halflife = self.engine.weight_halflife_days
        return [TimeDecay(fold.train.last, halflife) if halflife is not None else None for fold in self.folds]

    @property
    def taught(self) -> int:
        """Rows that teach in the last fold, which has most."""
        return min(self.folds[-1].train.rows, self.sample_rows)

    def flows(self, prepared: Prepared, scale_columns: Sequence[str]) -> list[Flow]:
        """Of each fold, what teaches and what judges, in turn."""
        rule, encoding = prepared.teaches, prepared.encoding
        wanted = [*encoding.columns, *scale_columns, *self.columns, self.rows.column]
        looked_at = [*(rule.columns if rule is not None else ()), *(c for w in self.weights if w for c in w.columns)]
        found: list[Flow] = []
        for fold in self.folds:
            threshold = sample_threshold(fold.train.rows, self.sample_rows)
            drawn = [] if threshold == EVERY_ROW and not self.screens else [ROW]
            train = self.rows.read(list(dict.fromkeys([*wanted, *looked_at, *drawn])), fold.train)
            train = train if rule is None else train.map(rule, train.schema)
            train = train if threshold == EVERY_ROW else train.map(SampleRows(threshold), train.schema)
            found += [train, self.rows.read(list(dict.fromkeys(wanted)), fold.validate)]
        return found
