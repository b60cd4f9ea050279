"""Consumes the command line of `assay generate`, produces a synthetic market."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from assay.config.options import ConfFile, Json, Master
from assay.runtime.failures import failures_told

PURPOSE = "Make a synthetic market of any size with known truth."


def generate(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write; it must be new or empty.")],
    rows: Annotated[int, typer.Option("--rows", help="Rows of the market, bad ones among them.")] = 100_000,
    preset: Annotated[
        Literal["auctions"] | None, typer.Option("--preset", help="A market with columns and quirks of its own.")
    ] = None,
    entities: Annotated[
        int | None, typer.Option("--entities", help="Default: as many as give each 500 rows, of daily times.")
    ] = None,
    frequency: Annotated[
        Literal["hourly", "daily", "weekly", "monthly", "irregular"] | None,
        typer.Option("--frequency", help="Of times. Default: daily."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds and settings give equal rows.")] = 7,
    regions: Annotated[int | None, typer.Option("--regions", help="Regions. Default: 8.")] = None,
    kinds: Annotated[int | None, typer.Option("--kinds", help="Kinds. Default: 4.")] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="DATE", help="Last time. Default: 2025-01-01.")] = None,
    noise: Annotated[
        float | None, typer.Option("--noise", help="Typical standard deviation of log prices. Default: 0.06.")
    ] = None,
    missing: Annotated[float | None, typer.Option("--missing", help="Share of missing values. Default: 0.02.")] = None,
    bad_share: Annotated[float | None, typer.Option("--bad-share", help="Share of rows that ingest refuses.")] = None,
    skew: Annotated[float | None, typer.Option("--skew", help="Share of rows that one entity has.")] = None,
    drift: Annotated[
        list[str] | None,
        typer.Option("--drift", metavar="KIND[=SIZE]", help="level, noise or covariate changes. May be repeated."),
    ] = None,
    drift_from: Annotated[
        str | None, typer.Option("--drift-from", metavar="DATE", help="Default: after 4/5 of the time.")
    ] = None,
    leak: Annotated[
        list[str] | None,
        typer.Option("--leak", metavar="KIND", help="A column that tells the target or the future. May be repeated."),
    ] = None,
    attributes: Annotated[
        int | None, typer.Option("--attributes", help="Numeric columns beyond the market's own four. Default: 0.")
    ] = None,
    master: Master = None,
    conf_file: ConfFile = None,
    as_json: Json = False,
) -> None:
    """Make a synthetic market of any size whose true values and noise are known, with a dataset YAML beside it.

    Reads: nothing.

    Writes: market/ and truth/ (Parquet), dataset.yml, planted.json.

    Example:  `assay generate --rows 1000000 --entities 2000 --frequency daily --out market --seed 7`

    Example:  `assay generate --preset auctions --rows 50000 --out auctions`
    """
    from assay.runtime.logs import set_up_logging
    from assay.runtime.progress import Reporter
    from assay.runtime.session import SparkSettings
    from assay.synthetic.job import make_market

    set_up_logging()
    folder = out.absolute()
    given: dict[str, Any]
    given = {"rows": rows, "entities": entities, "frequency": frequency, "regions": regions, "kinds": kinds, "end": end}
    given |= {"seed": seed, "noise": noise, "skew": skew, "missing": missing, "bad_share": bad_share, "leaks": leak}
    given |= {"attributes": attributes, "preset": preset}
    with failures_told("generate", as_json, lambda: folder):
        result = make_market(
            folder,
            drift=drift or (),
            drift_from=drift_from,
            spark=SparkSettings(master, conf_file),
            reporter=Reporter(),
            **given,
        )
    for line in [*result.summary(), f"generate: {result.status}"]:
        print(line, flush=True)
    if as_json:
        print(json.dumps(result.as_dict()), flush=True)
