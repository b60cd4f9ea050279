"""Consumes nothing, produces the declarations of deployment's tables: grain, key, partitions, columns, units."""

from __future__ import annotations

import pyarrow as pa

from assay.runtime.tables import Table

EXPERIMENTS = Table(
    name="experiments",
    stage="deployment",
    grain="one look at one experiment of one target",
    key=("experiment", "target", "looked_until"),
    partition_by=("target", "experiment"),
    columns={
        "looked_until": (pa.date32(), "day up to which outcomes had matured at this look"),
        "champion": (pa.string(), "number of the champion in the registry"),
        "challenger": (pa.string(), "number of the challenger in the registry"),
        "loss": (pa.string(), "what is compared per row, such as squared, absolute or interval score"),
        "design": (pa.string(), "paired: both models on the same rows; arms: each entity has one model"),
        "decision": (pa.string(), "promote, reject or extend"),
        "reasons": (pa.list_(pa.string()), "why, in words, each with the setting that it rests on"),
        "days": (pa.int64(), "days with matured rows that were judged, experiments.max_days at most"),
        "rows": (pa.int64(), "matured rows of these days; of arms those of both"),
        "first_day": (pa.date32(), "first of these days; null without any"),
        "last_day": (pa.date32(), "last of these days; null without any"),
        "champion_loss": (pa.float64(), "mean loss per row, in the loss's unit; null without rows"),
        "challenger_loss": (pa.float64(), "mean loss per row, in the loss's unit; null without rows"),
        "effect": (
            pa.float64(),
            "share of the champion's loss that the challenger saves, 0.01 is 1 %; below 0 where it loses more; null "
            "without rows",
        ),
        "low": (
            pa.float64(),
            "lower bound of the effect; with 1 - alpha both bounds hold at all looks; minus infinity while unknown",
        ),
        "high": (pa.float64(), "upper bound of the effect; 1 while unknown"),
        "p": (pa.float64(), "of no effect, two-sided, 0 to 1, valid at all looks until the planned end"),
        "alpha": (pa.float64(), "experiments.alpha: share of experiments in which anything false may be shown"),
        "min_effect": (pa.float64(), "experiments.min_effect: effect that a promotion needs"),
        "max_days": (pa.int64(), "experiments.max_days: planned end, days with matured rows"),
        "harm_p": (pa.float64(), "of being no worse than the margin, 0 to 1, valid at all looks"),
        "harm_margin": (pa.float64(), "experiments.harm_margin: share by which the challenger may be worse"),
        "target": (pa.string(), "target column"),
        "experiment": (pa.string(), "name of the experiment, which is of one deployment"),
    },
)

DEPLOYMENT_TABLES = {table.name: table for table in (EXPERIMENTS,)}
