"""Consumes a market and a block of its rows, produces two Parquet files: the source that is seen, and the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.synthetic.auction_columns import FIELDS, FIRST_MACHINE, WHOLE, auction_columns, hammer_prices
from assay.synthetic.auctions import Auctions
from assay.synthetic.cells import MOMENT, TEXT, Bad, codes
from assay.synthetic.config import MarketConfig
from assay.synthetic.faults import FUTURE_US, NAMES, UNREAL_US, Faults
from assay.synthetic.presets import Shown, shown
from assay.synthetic.process import GRADES, PROMOTIONS, Rows
from assay.synthetic.streams import normals, uniforms

BLOCK_ROWS = 1_000_000  # of a file
CHUNK_ROWS = 131_072  # in memory at once
SOURCE, TRUTH = "market", "truth"
MISSING = {"size": 80, "condition": 81, "grade": 82, "sales": 83}  # column -> its random stream
LEAK = 90
LEAKS = {"target": "assessed_value", "future": "following_price"}
NUMERIC = ("size", "age_years", "rooms", "condition")  # of every market


@dataclasses.dataclass(frozen=True)
class Block:
    """One file's worth of rows, and what was counted in it: column -> missing cells."""

    index: int
    rows: int
    bytes: int
    missing: dict[str, int]


def blocks_of(config: MarketConfig, block_rows: int = BLOCK_ROWS) -> list[tuple[int, int, int]]:
    """Of each block: its number, its first row and the row after its last."""
    starts = range(0, config.rows, block_rows)
    return [(index, start, min(start + block_rows, config.rows)) for index, start in enumerate(starts)]


def block_name(index: int) -> str:
    """Name of a block's file; names sort as the rows do."""
    return f"part-{index:05d}.parquet"


def write_block(config: MarketConfig, folder: Path, index: int, first: int, stop: int) -> Block:
    """Write rows first <= row < stop below `market` and below `truth`. Files appear whole or not at all."""
    missing = dict.fromkeys(missing_of(config), 0)
    paths = [folder / name / block_name(index) for name in (SOURCE, TRUTH)]
    parts = [path.with_name(f".{path.name}.part") for path in paths]
    floats = [[f.name for f in schema if f.type == pa.float64()] for schema in schemas(config)]
    writers = [
        pq.ParquetWriter(part, schema, compression="zstd", use_dictionary=_without(schema, plain))
        for part, schema, plain in zip(parts, schemas(config), floats, strict=True)
    ]
    for start in range(first, stop, CHUNK_ROWS):
        tables = chunk(config, start, min(start + CHUNK_ROWS, stop))
        for name in missing:
            missing[name] += tables[0].column(name).null_count
        for writer, table in zip(writers, tables, strict=True):
            writer.write_table(table)
    for writer, part, path in zip(writers, parts, paths, strict=True):
        writer.close()
        part.replace(path)
    return Block(index, stop - first, sum(path.stat().st_size for path in paths), missing)


def _without(schema: pa.Schema, names: Sequence[str]) -> list[str]:
    return [name for name in schema.names if name not in names]


def attribute_names(count: int) -> list[str]:
    """Columns of so many attributes beyond `NUMERIC`."""
    return [f"attribute_{i:03d}" for i in range(count)]


def schemas(config: MarketConfig) -> tuple[pa.Schema, pa.Schema]:
    """Schemas of source and truth.

    Truth: `price_without_noise` is the price that an optimal forecast would tell a moment before; the logarithm of
    the price deviates from its logarithm by `noise_sd` times a standard normal number. `fault` names the rule that
    the row of the source breaks (the truth is that of the row as it would have been).
    """
    names = shown(config).names
    market = [
        *((names.entity, TEXT), (names.time, MOMENT), ("region", TEXT), ("kind", TEXT), ("size", pa.float64())),
        *(("age_years", pa.float64()), ("rooms", TEXT), ("condition", pa.float64()), ("grade", TEXT)),
        *(("promotion", TEXT), ("sales", pa.float64()), (names.price, pa.float64())),
    ]
    source = [
        *(FIELDS if config.preset == "auctions" else market),
        *((LEAKS[leak], pa.float64()) for leak in config.leaks),
        *((name, pa.float64()) for name in attribute_names(config.attributes)),
    ]
    truth = [
        *(("row", pa.int64()), (names.entity, TEXT), (names.time, MOMENT), ("price_without_noise", pa.float64())),
        *(("noise_sd", pa.float64()), ("drift_level", pa.bool_()), ("drift_noise", pa.bool_())),
        *(("drift_covariate", pa.bool_()), ("fault", TEXT)),
    ]
    return pa.schema(source), pa.schema(truth)


def missing_of(config: MarketConfig) -> list[str]:
    """Columns of the source of which cells are missing, bad rows apart."""
    if config.preset != "auctions":
        return list(MISSING)
    return [name for name, _ in FIELDS if name not in WHOLE]


def chunk(config: MarketConfig, start: int, stop: int) -> tuple[pa.Table, pa.Table]:
    """Source and truth of rows start <= row < stop."""
    made = shown(config)
    rows, fault = made.market.rows(start, stop), Faults(config).of(start, stop)
    source, truth = schemas(config)
    return _source(made, rows, fault, source), _truth(made, rows, fault, truth)


def _source(made: Shown, rows: Rows, fault: np.ndarray, schema: pa.Schema) -> pa.Table:
    config, names = made.market.config, made.names
    start, stop = int(rows.row[0]), int(rows.row[-1]) + 1

    def broken(name: str) -> np.ndarray:
        chosen: np.ndarray = fault == NAMES.index(name)
        return chosen

    auctions = made.market if isinstance(made.market, Auctions) else None
    price, time = hammer_prices(auctions, rows) if auctions else np.exp(rows.log_price), rows.time.copy()
    columns: dict[str, pa.Array] = {}
    if "target" in config.leaks:
        columns[LEAKS["target"]] = pa.array(price * np.exp(0.001 * normals(config.seed, LEAK, start, stop)))
    if "future" in config.leaks:
        columns[LEAKS["future"]] = pa.array(np.exp(rows.next_log_price), from_pandas=True)  # NaN is null
    columns |= {
        name: pa.array(values) for name, values in zip(attribute_names(config.attributes), rows.attributes, strict=True)
    }
    for name, value in (("target_nan", np.nan), ("target_infinite", np.inf)):
        price[broken(name)] = value
    price = np.where(broken("target_negative"), -price, price)
    time[broken("time_unreal")], time[broken("time_future")] = UNREAL_US, FUTURE_US
    twins = broken("duplicate")
    if twins.any():
        # Its twin, the row before, may be the last of the chunk before.
        previous = made.market.rows(start - 1, start).time if twins[0] else time[:1]
        time = np.where(twins, np.concatenate((previous, rows.time[:-1])), time)
    bad = Bad(broken("not_a_number"), broken("infinite"), broken("out_of_bounds"), names.outside)
    columns |= {
        names.entity: _entity(config, rows.entity, hidden=broken("entity_missing")),
        names.time: pa.array(time, MOMENT, mask=broken("time_missing")),
        names.price: pa.array(price),
        **(auction_columns(auctions, rows, bad) if auctions else _market_columns(config, rows, bad)),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _market_columns(config: MarketConfig, rows: Rows, bad: Bad) -> dict[str, pa.Array]:
    start, stop = int(rows.row[0]), int(rows.row[-1]) + 1
    lost = {
        name: uniforms(config.seed, stream, start, stop) < config.missing
        for name, stream in MISSING.items()
        if config.missing
    }
    size = np.where(bad.infinite, np.inf, rows.size)
    rooms = np.where(bad.text, 0, rows.rooms.astype(np.int64))
    return {
        "region": codes(rows.region, [f"r{i:03d}" for i in range(config.regions)]),
        "kind": codes(rows.kind, [f"k{i:03d}" for i in range(config.kinds)]),
        "size": pa.array(size, mask=_kept_infinite(lost.get("size"), size)),
        "age_years": pa.array(np.where(bad.outside, bad.value, rows.age_years)),
        "rooms": codes(rooms, ["many", *(str(i) for i in range(1, 7))]),
        "condition": pa.array(rows.condition, mask=lost.get("condition")),
        "grade": codes(rows.grade, GRADES, hidden=lost.get("grade")),
        "promotion": codes(rows.promotion, PROMOTIONS),
        "sales": pa.array(rows.sales, mask=lost.get("sales")),
    }


def _kept_infinite(lost: np.ndarray | None, size: np.ndarray) -> np.ndarray | None:
    """A size that is to break a rule is not missing."""
    return None if lost is None else lost & np.isfinite(size)


def _truth(made: Shown, rows: Rows, fault: np.ndarray, schema: pa.Schema) -> pa.Table:
    config = made.market.config
    drift = {name: getattr(config.drift, name) is not None for name in ("level", "noise", "covariate")}
    columns = {
        "row": pa.array(rows.row),
        made.names.entity: _entity(config, rows.entity),
        made.names.time: pa.array(rows.time, MOMENT),
        "price_without_noise": pa.array(np.exp(rows.expected)),
        "noise_sd": pa.array(rows.noise_sd),
        **{f"drift_{name}": pa.array(rows.drifted & there) for name, there in drift.items()},
        "fault": codes(fault, NAMES, hidden=fault < 0),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _entity(config: MarketConfig, entity: np.ndarray, *, hidden: np.ndarray | None = None) -> pa.DictionaryArray:
    """Names of entities, which come in order."""
    first, last = int(entity[0]), int(entity[-1])
    named = (str(FIRST_MACHINE + i) if config.preset == "auctions" else f"e{i:08d}" for i in range(first, last + 1))
    return codes(entity - first, list(named), hidden=hidden)
