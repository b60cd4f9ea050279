"""Consumes tables and kernels, produces tables: the one place that chooses by which road rows travel.

A stage describes its work as a `Flow` (read, map a kernel, bring keys together, write) and never learns which road
carries it: `ArrowPlane` moves table files between executors with Arrow and commits them to the Delta log;
`SparkPlane` takes the same kernels through `mapInArrow` and lets Spark read and write. Both give the same rows.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa

from assay.errors import AssayError, DataError, Overtaken
from assay.runtime.conditions import Condition
from assay.runtime.tables import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Kernel = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
Approve = Callable[[Mapping[str, int]], Sequence[str]]
COMMIT_KEY = "assay"
NO_VALUE = ("",)  # of a partition column: Delta takes an empty text for null, so no partition has it
NEVER = -1  # version at which a table was read that was not there
LATEST_COMMITS = 100  # among which a commit just made is looked for, as others may write at the same time


@dataclasses.dataclass(frozen=True)
class Commit:
    """One write of assay to a table.

    slot: the part of the table that the writer owns (`all`, or a target). identity: hash of all its inputs.
    details: what the writer wants to find again, such as the hash of the feature plan.
    """

    version: int
    job: str
    slot: str
    identity: str
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        """What is kept in the Delta commit's user metadata."""
        return {
            COMMIT_KEY: {"job": self.job, "slot": self.slot, "identity": self.identity, "details": dict(self.details)}
        }

    def is_of(self, slot: str, identity: str | None, details: Mapping[str, Any]) -> bool:
        """Whether it wrote this slot, with this identity, where one is asked for, and with these details."""
        same = all(self.details.get(name) == value for name, value in details.items())
        return self.slot == slot and identity in {None, self.identity} and same

    @classmethod
    def parse(cls, text: Any, version: int) -> Commit | None:
        """Read back the JSON of `payload`; anything else in a commit's metadata is none of ours."""
        try:
            found = json.loads(text)[COMMIT_KEY] if text else None
            return cls(version, found["job"], found["slot"], found["identity"], found["details"]) if found else None
        except (ValueError, KeyError, TypeError):
            return None


@dataclasses.dataclass(frozen=True)
class Output:
    """Where rows of a flow go.

    schema: of the table, partition columns last.
    owns: column=value of the partitions that this write replaces as a whole, or column=values for several of them at
        once (none: it adds a commit and no row); empty means the whole table.
    only: a text column that must be null (`keep="null"`) or filled (`keep="filled"`) for a row to go here.
    weight: an integer column that says how many source rows a row stands for; `approve` gets their sum.
    expects: version of the table at which the commit's slot was read, `NEVER` where there was no table: of all that
        read it at the same time only the first one writes, for the others it is `Overtaken`. None replaces whatever is
        there by then; of several at the same time that do so, all rows may stay.
    """

    table: Table
    schema: pa.Schema
    commit: Commit
    owns: Mapping[str, str | tuple[str, ...]] = dataclasses.field(default_factory=dict)
    only: str | None = None
    keep: Literal["null", "filled"] = "null"
    weight: str | None = None
    expects: int | None = None

    def owned(self) -> dict[str, tuple[str, ...]]:
        """`owns` with the values of each column as a tuple."""
        return {name: (value,) if isinstance(value, str) else value for name, value in self.owns.items()}

    def replaces(self, partition: Mapping[str, str | None]) -> bool:
        """Whether this write replaces the partition."""
        return all(partition.get(name) in values for name, values in self.owned().items())

    @property
    def conditions(self) -> list[Condition]:
        """What a row must fulfil to go here."""
        if self.only is None:
            return []
        return [Condition(self.only, "is_null" if self.keep == "null" else "not_null")]

    @property
    def statistics(self) -> tuple[str, ...]:
        """Columns with file statistics; Delta refuses them on partition columns."""
        return tuple(name for name in self.table.statistics_columns if name not in self.table.partition_by)

    @property
    def properties(self) -> dict[str, str]:
        """Delta table properties of a new table."""
        return {"delta.dataSkippingStatsColumns": ",".join(self.statistics)} if self.statistics else {}

    @property
    def transaction(self) -> str:
        """Name under which Delta keeps the number of the slot's newest write that expected something."""
        return f"assay/{self.commit.slot}"

    def user_metadata(self) -> str:
        """Of the Delta commit; two writes with equal inputs, one of which is overtaken, have different ones."""
        payload = self.commit.payload()
        if self.expects is not None:
            payload[COMMIT_KEY]["write"] = uuid.uuid4().hex
        return json.dumps(payload)

    def check_expected(self, newest: Commit | None) -> None:
        """Refuse to write after another write. newest: of the slot.

        Raises:
            Overtaken: the slot was written since the version that this write expects.
        """
        if self.expects is not None and newest is not None and newest.version > self.expects:
            raise Overtaken(
                f"table {self.table.name}: {newest.job} wrote {self.commit.slot} in version {newest.version}, after it "
                f"was read at version {self.expects}"
            )

    def check_schema(self, existing: pa.Schema) -> None:
        """Refuse to replace a part of a table that has other columns: the parts would not fit together."""
        if self.owns and not same_columns(existing, self.schema):
            raise DataError(
                f"table {self.table.name} has other columns than this run writes; rebuild it whole or use another "
                "--workspace"
            )

    def check_owned(self, partition: Mapping[str, str | None]) -> None:
        """Refuse rows outside of the partitions that this write replaces: they would be there twice."""
        strange = {name: partition[name] for name, values in self.owned().items() if partition[name] not in values}
        if strange:
            raise AssayError(
                f"{self.commit.job} owns {dict(self.owns)} of table {self.table.name}, but made rows for {strange}"
            )


@dataclasses.dataclass(frozen=True)
class Written:
    """Outcome of a write: the table's version after it and the rows that this write put there."""

    table: str
    version: int
    rows: int


@dataclasses.dataclass(frozen=True)
class Aside:
    """Few rows of a flow that go to the driver instead of a table, such as what tasks counted on their way.

    schema: the columns that are wanted.  only: a column that is filled in these rows and null in all others.
    take: gets them, in any order, before `approve` is asked.
    """

    schema: pa.Schema
    only: str
    take: Callable[[pa.Table], None]


class Flow(Protocol):
    """Rows on their way. Nothing is read before `by_key`, `collect` or `write`."""

    @property
    def schema(self) -> pa.Schema:
        """Schema of the rows as they are now."""
        ...

    def map(self, kernel: Kernel, schema: pa.Schema) -> Flow:
        """Apply a kernel to each task's batches; no shuffle."""
        ...

    def by_key(self, keys: Sequence[str], *, rows_hint: int) -> Flow:
        """Bring all rows with equal keys into one task (one shuffle). No keys: all rows into one task."""
        ...

    def in_few(self, tasks: int) -> Flow:
        """All rows in at most so many tasks, which read them themselves; no shuffle."""
        ...

    def join(self, other: Flow, on: Sequence[str], *, rows_hint: int) -> Flow:
        """Inner join on `on` (one shuffle of both sides); the other side adds its columns that are not in `on`."""
        ...

    def union(self, other: Flow) -> Flow:
        """The rows of both flows, which have the same schema; no shuffle."""
        ...

    def collect(self) -> pa.Table:
        """Bring a small result to the driver."""
        ...

    def write(
        self, outputs: Sequence[Output], *, approve: Approve | None = None, aside: Aside | None = None
    ) -> list[Written]:
        """Run the flow once and commit each output atomically, in the order given.

        approve: gets the rows of each table (the sum of the output's `weight`, where it has one) before anything is
            committed and returns the tables to commit.
        aside: rows that go to the driver; no output gets them.
        """
        ...


class Plane(Protocol):
    """The lake, seen along one road."""

    road: str

    @property
    def slots(self) -> int:
        """Tasks that can run at once."""
        ...

    def location(self, table: str) -> str:
        """Folder, URI or catalog name of a table."""
        ...

    def version(self, table: str) -> int | None:
        """Newest version, or None where the table does not exist."""
        ...

    def schema(self, table: str) -> pa.Schema:
        """Schema of an existing table."""
        ...

    def rows(self, table: str, version: int) -> int:
        """Rows of a table at a version."""
        ...

    def partitions(self, table: str, version: int, column: str) -> set[str]:
        """Values of a partition column at a version."""
        ...

    def changed(self, table: str, since: int, version: int, column: str) -> set[str] | None:
        """Values of a partition column whose files differ between two versions; None where that cannot be told."""
        ...

    def last_commit(
        self, table: str, slot: str, *, identity: str | None = None, details: Mapping[str, Any] = MappingProxyType({})
    ) -> Commit | None:
        """Newest write of assay to this slot of the table, or the newest with this identity and these details."""
        ...

    def frame(self, frame: DataFrame) -> Flow:
        """Rows of a Spark DataFrame, read once however often the flow is used; kept until the plane is cleaned."""
        ...

    def read(
        self,
        table: str,
        *,
        version: int,
        columns: Sequence[str] | None = None,
        where: Sequence[Condition] = (),
        encoded: Sequence[str] = (),
    ) -> Flow:
        """Rows of a table at one version.

        encoded: columns of texts that a kernel takes as dictionaries where files have them so; the schema tells.
        """
        ...

    def rows_of(self, table: Table, schema: pa.Schema, rows: pa.Table) -> Flow:
        """A table that the driver has, as a flow."""
        ...

    def inputs(
        self, items: Sequence[Any], kernel: Callable[[Iterator[Any]], Iterator[pa.RecordBatch]], schema: pa.Schema
    ) -> Flow:
        """A flow whose tasks each turn one item (a part of a source file) into batches."""
        ...

    def train(self, reads: Sequence[Flow], task: Any, ranks: int, *, whole: bool = False) -> list[Any]:
        """Run `task` as one barrier stage of `ranks` tasks, each with its own share of every flow.

        task(rank_context, shares) gets, for each flow, a callable that starts a fresh iterator over its batches.
        whole: the share of each task is all of the flow.
        """
        ...


def same_columns(one: pa.Schema, other: pa.Schema) -> bool:
    """Whether two schemas have the same names and types in the same order; what may be null is no matter."""
    return [(f.name, f.type) for f in one] == [(f.name, f.type) for f in other]


def tasks_for(rows: int, *, rows_per_task: int, slots: int) -> int:
    """How many tasks `rows` are worth: at least 1, a multiple of what runs at once when there are many."""
    wanted = max(1, -(-rows // rows_per_task))
    return wanted if wanted <= slots else -(-wanted // slots) * slots
