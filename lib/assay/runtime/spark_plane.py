"""Consumes a lake that only Spark may touch (a catalog, a foreign file system), produces the same flows through Spark.

The kernels are those of the Arrow road; their batches come from `mapInArrow`, and Spark's writer commits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from assay import extensions
from assay.runtime.arrow_files import arrow_schema, conform
from assay.runtime.barrier import outcome
from assay.runtime.conditions import Condition, spark_column
from assay.runtime.plane import (
    Approve,
    Aside,
    Commit,
    Flow,
    Kernel,
    Output,
    Plane,
    Written,
    tasks_for,
)
from assay.runtime.spark_commit import write_frame
from assay.runtime.spark_names import quoted, spark_schema
from assay.runtime.spool import PACKED, Pack, run_spooled
from assay.runtime.tables import Table
from assay.runtime.workers import prepare_worker

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class SparkPlane(Plane):
    """Tables as folders of any file system that Spark knows, or in a catalog's schema."""

    road = "spark"

    def __init__(
        self, session: Callable[[], SparkSession], root: str, *, catalog: str = "", rows_per_task: int = 250_000
    ) -> None:
        """root: folder or URI. A `file:` URI is taken as escaped, as Python writes it; Spark would take it as it is."""
        self._session = session
        self.root = unquote(root) if root.startswith("file:") else root
        self.catalog = catalog
        self.rows_per_task = rows_per_task
        self._kept: list[DataFrame] = []

    @property
    def session(self) -> SparkSession:
        """The Spark session."""
        return self._session()

    @property
    def slots(self) -> int:
        """Tasks that can run at once, as far as Spark says it."""
        return max(1, int(self.session.conf.get("spark.default.parallelism", "0") or 0) or _parallelism(self.session))

    def location(self, table: str) -> str:
        """`catalog.schema.table`, or the table's folder."""
        return f"{self.catalog}.{table}" if self.catalog else f"{self.root.rstrip('/')}/{table}"

    def identifier(self, table: str) -> str:
        """Its name in SQL."""
        if self.catalog:
            return quoted(*self.catalog.split("."), table)
        return "delta." + quoted(self.location(table))

    def _exists(self, table: str) -> bool:
        if self.catalog:
            return bool(self.session.catalog.tableExists(self.identifier(table)))
        from delta.tables import DeltaTable

        return bool(DeltaTable.isDeltaTable(self.session, self.location(table)))

    def version(self, table: str) -> int | None:
        """Newest version of a table."""
        if not self._exists(table):
            return None
        newest = self.session.sql(f"DESCRIBE HISTORY {self.identifier(table)} LIMIT 1").collect()
        return int(newest[0]["version"])

    def schema(self, table: str) -> pa.Schema:
        """Schema of a table, as Arrow types."""
        return arrow_schema(self.session.table(self.identifier(table)))

    def rows(self, table: str, version: int) -> int:
        """Rows of a table at a version."""
        return int(self.read(table, version=version, columns=[]).frame.count())

    def partitions(self, table: str, version: int, column: str) -> set[str]:
        """Values of a partition column at a version."""
        rows = self.read(table, version=version, columns=[column]).frame.distinct().collect()
        return {str(row[0]) for row in rows}

    def changed(self, table: str, since: int, version: int, column: str) -> set[str] | None:
        """Values of a partition column whose files differ between two versions, by the names of their folders."""
        from py4j.protocol import Py4JJavaError
        from pyspark.errors import PySparkException

        try:
            before, after = (set(self.read(table, version=v).frame.inputFiles()) for v in (since, version))
        except (PySparkException, Py4JJavaError):  # the log no longer goes back that far
            return None
        folders = [[p for p in path.split("/") if p.startswith(f"{column}=")] for path in before ^ after]
        return None if not all(folders) else {unquote(found[-1].split("=", 1)[1]) for found in folders}

    def last_commit(
        self, table: str, slot: str, *, identity: str | None = None, details: Mapping[str, Any] = MappingProxyType({})
    ) -> Commit | None:
        """Newest write of assay to this slot, or the newest with this identity and these details."""
        if not self._exists(table):
            return None
        rows = self.session.sql(f"DESCRIBE HISTORY {self.identifier(table)}").select("version", "userMetadata")
        for row in sorted(rows.collect(), key=lambda r: -r["version"]):
            found = Commit.parse(row["userMetadata"], int(row["version"]))
            if found is not None and found.is_of(slot, identity, details):
                return found
        return None

    def read(
        self,
        table: str,
        *,
        version: int,
        columns: Sequence[str] | None = None,
        where: Sequence[Condition] = (),
        encoded: Sequence[str] = (),
    ) -> SparkFlow:
        """Rows of a table at one version; Spark hands over texts as they are."""
        reader = self.session.read.format("delta").option("versionAsOf", version)
        frame = reader.table(self.identifier(table)) if self.catalog else reader.load(self.location(table))
        schema = arrow_schema(frame)
        schema = pa.schema([schema.field(name) for name in (columns if columns is not None else schema.names)])
        for condition in where:
            frame = frame.where(spark_column(condition))
        return SparkFlow(self, frame.select([quoted(name) for name in schema.names]), schema)

    def rows_of(self, table: Table, schema: pa.Schema, rows: pa.Table) -> SparkFlow:
        """A table of the driver's, in one task."""
        fitted = pa.Table.from_batches([conform(b.select(schema.names), schema) for b in rows.to_batches()], schema)
        # Of no rows Spark cannot tell the type of a list's elements, though it is told.
        given: Any = fitted if fitted.num_rows else []
        frame = self.session.createDataFrame(given, spark_schema(schema))
        return SparkFlow(self, frame.coalesce(1), schema)

    def inputs(
        self, items: Sequence[Any], kernel: Callable[[Iterator[Any]], Iterator[pa.RecordBatch]], schema: pa.Schema
    ) -> SparkFlow:
        """One task per item; the items travel with the kernel."""
        frame = self.session.range(0, len(items), 1, max(1, len(items)))

        extended = extensions.carried()

        def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            prepare_worker(extended)
            mine = (items[index] for batch in batches for index in batch.column(0).to_pylist())
            for batch in kernel(mine):
                yield conform(batch, schema)

        return SparkFlow(self, frame.mapInArrow(run, spark_schema(schema)), schema)

    def frame(self, frame: DataFrame) -> SparkFlow:
        """Kept on the executors' disks."""
        from pyspark import StorageLevel

        self._kept.append(frame.persist(StorageLevel.DISK_ONLY))
        return SparkFlow(self, frame, arrow_schema(frame))

    def train(self, reads: Sequence[Flow], task: Any, ranks: int, *, whole: bool = False) -> list[Any]:
        """One barrier stage; each rank first spools its batches to local files, because training reads them twice.

        Every batch is cut into one part per rank, so that ranks are even however few batches there are; or goes to all.
        """
        import pickle

        import cloudpickle

        schemas = [flow.schema for flow in reads]
        frames = []
        for index, flow in enumerate(reads):
            assert isinstance(flow, SparkFlow)
            frames.append(_in_arrow(flow.frame, Pack(index, flow.schema, ranks, whole), PACKED))
        # Parts arrive in any order: sorted, so that the same table gives every rank the same rows in the same order.
        dealt = by_rank(functools.reduce(lambda a, b: a.unionAll(b), frames), ranks)

        extended = extensions.carried()

        def rank_task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            extensions.accept(extended)
            rank, result = run_spooled(batches, schemas, task, ranks)
            yield pa.record_batch({"rank": pa.array([rank]), "result": pa.array([cloudpickle.dumps(result)])})

        ordered = dealt.sortWithinPartitions("flow", "task", "part")
        found = ordered.mapInArrow(rank_task, "rank long, result binary", barrier=True)
        rows = found.repartition(1).collect()  # a barrier stage is tried again only where a shuffle comes after it
        results = [pickle.loads(r["result"]) for r in sorted(rows, key=lambda r: r["rank"])]  # noqa: S301  our executors'
        return outcome(results)

    def clean(self) -> None:
        """Forget the frames that were kept; nothing else of this road stays behind."""
        while self._kept:
            self._kept.pop().unpersist()


def _parallelism(session: SparkSession) -> int:
    try:
        return int(session.sparkContext.defaultParallelism)
    except Exception:
        return 2


def _in_arrow(frame: DataFrame, kernel: Kernel, schema: Any) -> DataFrame:
    """`mapInArrow` for columns of any name: it looks its input's up unquoted, so one with a dot would not be found."""
    names = frame.columns

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return kernel(batch.rename_columns(names) for batch in batches)

    return frame.toDF(*(f"c{number}" for number in range(len(names)))).mapInArrow(run, schema)


class SparkFlow(Flow):
    """A DataFrame and the Arrow schema that its rows have."""

    def __init__(self, plane: SparkPlane, frame: DataFrame, schema: pa.Schema) -> None:
        self.plane = plane
        self.frame = frame
        self._schema = schema

    @property
    def schema(self) -> pa.Schema:
        """Schema of the rows."""
        return self._schema

    def map(self, kernel: Kernel, schema: pa.Schema) -> SparkFlow:
        """Apply a kernel through `mapInArrow`."""
        before, after, extended = self._schema, schema, extensions.carried()

        def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            prepare_worker(extended)
            for batch in kernel(conform(b, before) for b in batches):
                yield conform(batch, after)

        return SparkFlow(self.plane, _in_arrow(self.frame, run, spark_schema(schema)), schema)

    def by_key(self, keys: Sequence[str], *, rows_hint: int) -> SparkFlow:
        """Spark's own shuffle."""
        if not keys:
            return SparkFlow(self.plane, self.frame.repartition(1), self._schema)
        tasks = tasks_for(rows_hint, rows_per_task=self.plane.rows_per_task, slots=self.plane.slots)
        return SparkFlow(self.plane, self.frame.repartition(tasks, *map(quoted, keys)), self._schema)

    def in_few(self, tasks: int) -> SparkFlow:
        """Partitions made of several others."""
        return SparkFlow(self.plane, self.frame.coalesce(tasks), self._schema)

    def join(self, other: Flow, on: Sequence[str], *, rows_hint: int) -> SparkFlow:
        """Spark's own inner join."""
        assert isinstance(other, SparkFlow)
        schema = pa.schema([*self._schema, *(f for f in other.schema if f.name not in on)])
        frame = self.frame.join(other.frame, list(on), "inner").select([quoted(name) for name in schema.names])
        return SparkFlow(self.plane, frame, schema)

    def union(self, other: Flow) -> SparkFlow:
        """Spark's own union, by name."""
        assert isinstance(other, SparkFlow)
        return SparkFlow(self.plane, self.frame.unionByName(other.frame), self._schema)

    def collect(self) -> pa.Table:
        """Bring all rows to the driver."""
        table = self.frame.toArrow()
        batches = [conform(batch, self._schema) for batch in table.to_batches()]
        return pa.Table.from_batches(batches, self._schema)

    def write(
        self, outputs: Sequence[Output], *, approve: Approve | None = None, aside: Aside | None = None
    ) -> list[Written]:
        """Run once (kept on executors while there are several outputs), then one Delta commit per output."""
        from pyspark import StorageLevel

        for output in outputs:
            if output.owns and self.plane.version(output.table.name) is not None:
                output.check_schema(self.plane.schema(output.table.name))
        keep = len(outputs) > 1 or approve is not None or aside is not None
        kept = self.frame.persist(StorageLevel.DISK_ONLY) if keep else self.frame
        frame = kept
        try:
            if aside is not None:
                told = kept.where(spark_column(Condition(aside.only, "not_null")))
                told = told.select([quoted(name) for name in aside.schema.names])
                aside.take(SparkFlow(self.plane, told, aside.schema).collect())
                frame = kept.where(spark_column(Condition(aside.only, "is_null")))
            if approve is not None:
                approved = set(approve({o.table.name: self._weight(frame, o) for o in outputs}))
                outputs = [o for o in outputs if o.table.name in approved]
            return [write_frame(self.plane, self._only(frame, output), output) for output in outputs]
        finally:
            if keep:
                kept.unpersist()

    def _only(self, frame: DataFrame, output: Output) -> DataFrame:
        for condition in output.conditions:
            frame = frame.where(spark_column(condition))
        return frame

    def _weight(self, frame: DataFrame, output: Output) -> int:
        from pyspark.sql import functions as F  # noqa: N812

        rows = self._only(frame, output)
        if output.weight is None:
            return int(rows.count())
        return int(rows.agg(F.sum(quoted(output.weight))).collect()[0][0] or 0)


def by_rank(frame: DataFrame, ranks: int) -> DataFrame:
    """Rows whose `rank` is r in partition r, of `ranks` partitions."""
    if hasattr(frame, "repartitionById"):  # from Spark 4.1 on
        return frame.repartitionById(ranks, "rank")
    return by_hash_of_rank(frame, ranks)


def by_hash_of_rank(frame: DataFrame, ranks: int) -> DataFrame:
    """The same where Spark partitions by hash alone: by a number for each rank whose hash leads to its partition."""
    from pyspark.sql import functions as F  # noqa: N812

    hashed = frame.sparkSession.range(64 * ranks + 64).selectExpr("id", f"pmod(hash(id), {ranks}) AS place")
    leads = {row["place"]: row["id"] for row in hashed.collect()}
    numbers = F.array(*(F.lit(leads[rank]).cast("bigint") for rank in range(ranks)))
    return frame.withColumn("place", F.element_at(numbers, F.col("rank") + 1)).repartition(ranks, "place").drop("place")
