"""Consumes a `MarketConfig`, produces a folder: `market/`, `truth/`, `dataset.yml` and `planted.json`."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config.yaml_text import Tree
from assay.errors import UserError
from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.job import DONE, UNCHANGED
from assay.runtime.program import program
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings, open_session
from assay.synthetic.config import MarketConfig, market_config
from assay.synthetic.dataset import dataset_tree, planted, settings
from assay.synthetic.faults import Faults
from assay.synthetic.files import BLOCK_ROWS, SOURCE, TRUTH, Block, blocks_of, write_block
from assay.synthetic.presets import shown
from assay.version import __version__

if TYPE_CHECKING:
    from pyspark import SparkContext

JOB = "generate"
RECORD, DATASET = "planted.json", "dataset.yml"
OURS = {SOURCE, TRUTH, RECORD, DATASET, "logs"}


@dataclasses.dataclass(frozen=True)
class Generated:
    """What was written, or found as it should be."""

    status: str
    folder: Path
    record: Tree
    seconds: float = 0.0
    bytes: int = 0

    @property
    def dataset(self) -> Path:
        """Its dataset YAML."""
        return self.folder / DATASET

    @property
    def truth(self) -> Path:
        """Folder of what only the generator knows, Parquet by entity and time."""
        return self.folder / TRUTH

    def as_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "job": JOB,
            "status": self.status,
            "metrics": {"rows": self.record["rows"], "seconds": self.seconds, "bytes": self.bytes},
            "dataset": str(self.dataset),
            "truth": str(self.truth),
            "planted": str(self.folder / RECORD),
        }

    def summary(self) -> list[str]:
        """Lines for a person."""
        bad = sum(rule["rows"] for rule in self.record["bad_rows"].values())
        found = [
            f"{self.record['rows']:,} rows of {self.record['entities']:,} entities, {bad:,} of them bad on purpose"
        ]
        if self.status == DONE:
            found.append(f"{self.seconds:.1f} s, {self.bytes / 1e6:,.0f} MB")
        found.append(f"now run: {program()} pipeline --dataset {self.dataset}")
        return found


def make_market(
    folder: Path,
    *,
    drift: Sequence[str] = (),
    drift_from: str | None = None,
    spark: SparkSettings | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Generated:
    """Write the market that a command line or a notebook asks for, unless the folder holds it already.

    settings: fields of `MarketConfig`; `rows` is needed. drift: texts such as `level=0.3`, from `drift_from` on.
    spark: how to reach Spark. reporter: who hears of progress; None says nothing.

    Raises:
        UserError: see `generate`.
        ConfigError: names the setting and what it may be.
    """
    config = market_config(settings, drift=drift, drift_from=drift_from)

    def context() -> SparkContext:
        log = folder / "logs" / "spark.log"
        return open_session(spark or SparkSettings(), app=f"assay {JOB}", log_file=log).sparkContext

    return generate(config, folder, context=context, reporter=reporter or Reporter(quiet=True))


def generate(
    config: MarketConfig,
    folder: Path,
    *,
    context: Callable[[], SparkContext],
    reporter: Reporter,
    block_rows: int = BLOCK_ROWS,
) -> Generated:
    """Write a market, a file of `block_rows` rows per task, unless the folder holds this very market already.

    Raises:
        UserError: the folder cannot be written, or holds something else.
        ConfigError: the settings contradict one another.
    """
    import yaml

    _ = shown(config).layout.bounds_us, Faults(config).each  # which refuse what they cannot lay out
    found = _found(config, folder)
    if found is not None:
        return Generated(UNCHANGED, folder, found)
    try:
        _write(folder / RECORD, json.dumps(_identity(config)))
        for name in (SOURCE, TRUTH):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir()
    except OSError as error:
        raise UserError(f"--out {folder}: cannot write there ({error.strerror or error}); choose another") from None
    plane = ArrowPlane(context, folder)
    blocks = blocks_of(config, block_rows)
    with reporter.step("starting Spark"):
        context()
    started = time.monotonic()
    with reporter.step(f"making {config.rows:,} rows in {len(blocks)} file(s)"):
        written: list[Block] = plane.run_tasks(blocks, partial(_block, config, folder))
    tree = yaml.safe_dump(dataset_tree(config), sort_keys=False, width=120)
    _write(folder / DATASET, tree)
    record = {**_identity(config), "complete": True, **planted(config, written)}
    _write(folder / RECORD, json.dumps(record, indent=1))
    size = sum(block.bytes for block in written)
    return Generated(DONE, folder, record, time.monotonic() - started, size)


def _block(config: MarketConfig, folder: Path, _: int, block: tuple[int, int, int]) -> Block:
    return write_block(config, folder, *block)


def _identity(config: MarketConfig) -> Tree:
    return {"made_by": f"assay {JOB}", "version": __version__, "config": settings(config)}


def _found(config: MarketConfig, folder: Path) -> Tree | None:
    """The record of this market, where the folder has all of it; None where it can be written."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: this is a file; choose a folder")
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8")) if RECORD in names else {}
    except (OSError, ValueError):
        record = {}
    if names - {"logs"} and (record.get("made_by") != f"assay {JOB}" or names - OURS):
        raise UserError(f"--out {folder}: there are other things in this folder; choose another")
    if not record.get("complete"):
        return None  # nothing yet, or what was left when the job was killed
    if {k: record[k] for k in ("version", "config")} != {k: _identity(config)[k] for k in ("version", "config")}:
        raise UserError(f"--out {folder}: another market is there; choose another folder, or delete this one")
    files = [len(list((folder / name).glob("part-*.parquet"))) for name in (SOURCE, TRUTH)]
    whole = files == [record["files"]] * 2 and DATASET in names
    return record if whole else None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
