"""Consumes Parquet files below a table's folder, produces one commit of them in its Delta log. Runs on the driver."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assay.errors import AssayError, DataError
from assay.runtime.plane import LATEST_COMMITS, NO_VALUE, Commit, Output, Written
from assay.runtime.table_writer import DataFile

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable

ATTEMPTS = 50  # of a write that expects its slot as it was, while others write other slots of the table


def commit_files(folder: Path, output: Output, files: Sequence[DataFile]) -> Written:
    """Replace what `output` owns by these files, in one Delta transaction.

    Raises:
        Overtaken: the slot was written since the version that the output expects.
    """
    from deltalake import CommitProperties, DeltaTable

    actions, metadata = [_add_action(folder, output, file) for file in files], output.user_metadata()
    _create(folder, output)
    if output.expects is not None:
        version = _commit_expecting(folder, output, actions, metadata)
        return Written(output.table.name, version, sum(file.rows for file in files))
    delta = DeltaTable(folder)
    _check_replaceable(delta, output)
    _commit(delta, output, actions, CommitProperties(custom_metadata={"userMetadata": metadata}))
    for entry in DeltaTable(folder).history(LATEST_COMMITS):
        if entry.get("userMetadata") == metadata:
            return Written(output.table.name, int(entry["version"]), sum(file.rows for file in files))
    raise AssayError(f"table {output.table.name}: its newest {LATEST_COMMITS} commits do not show what was written")


def _create(folder: Path, output: Output) -> None:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    if DeltaTable.is_deltatable(str(folder)):
        return
    try:
        DeltaTable.create(
            str(folder),
            schema=output.table.described(output.schema),
            partition_by=list(output.table.partition_by),
            description=output.table.grain,
            configuration=output.properties,
        )
    except DeltaError:  # somebody else may have been faster
        if not DeltaTable.is_deltatable(str(folder)):
            raise


def _commit(delta: DeltaTable, output: Output, actions: list[Any], properties: CommitProperties) -> None:
    filters = [(name, "in", list(values or NO_VALUE)) for name, values in output.owned().items()]
    delta.create_write_transaction(
        actions=actions,
        mode="overwrite",
        schema=output.table.described(output.schema),
        partition_by=list(output.table.partition_by),
        partition_filters=filters or None,
        commit_properties=properties,
    )


def _commit_expecting(folder: Path, output: Output, actions: list[Any], metadata: str) -> int:
    """Look at the log, then commit at the very next version or not at all; again where others wrote other slots.

    deltalake's own retries would not do: they let two writes pass that replace a partition without files.
    """
    from deltalake import CommitProperties, DeltaTable, Transaction
    from deltalake.exceptions import CommitFailedError

    for _ in range(ATTEMPTS):
        delta = DeltaTable(folder)
        _check_replaceable(delta, output)
        version = int(delta.version()) + 1
        output.check_expected(_newest(delta, output))
        properties = CommitProperties(
            custom_metadata={"userMetadata": metadata},
            max_commit_retries=0,
            # So that a write by Spark, which looks at these alone, takes notice.
            app_transactions=[Transaction(output.transaction, version)],
        )
        try:
            _commit(delta, output, actions, properties)
            return version
        except CommitFailedError:
            if int(DeltaTable(folder).version()) < version:  # nobody else is the reason
                raise
    raise AssayError(
        f"table {output.table.name}: others wrote it {ATTEMPTS} times while {output.commit.job} did; run it again"
    )


def _newest(delta: DeltaTable, output: Output) -> Commit | None:
    """The slot's newest commit after the version that the output expects."""
    assert output.expects is not None
    since = int(delta.version()) - output.expects
    for entry in delta.history(since) if since > 0 else []:
        found = Commit.parse(entry.get("userMetadata"), int(entry.get("version", -1)))
        if found is not None and found.slot == output.commit.slot:
            return found
    return None


def _add_action(folder: Path, output: Output, file: DataFile) -> Any:
    from deltalake.transaction import AddAction

    on_disk = folder / file.path
    found = on_disk.stat() if on_disk.is_file() else None
    if found is None or found.st_size != file.size:
        raise AssayError(
            f"executors wrote {file.path} of table {output.table.name}, but the driver does not see it: the "
            "workspace is not on a file system that all share. Use one, or set runtime.road=spark"
        )
    return AddAction(
        path=file.path,
        size=file.size,
        partition_values=dict(file.partition),
        modification_time=int(found.st_mtime * 1000),
        data_change=True,
        stats=file.stats,
    )


def _check_replaceable(delta: DeltaTable, output: Output) -> None:
    """Refuse a write that deltalake would get wrong, or that the table as it is does not allow.

    Spark keeps letters such as é in the names of files, deltalake escapes them when it logs a removal: the two are not
    matched, and the rows would stay beside the new ones.
    """
    output.check_schema(pa.schema(delta.schema()))
    existing, wanted = list(delta.metadata().partition_columns), list(output.table.partition_by)
    if existing != wanted:
        raise DataError(
            f"table {output.table.name} is partitioned by {existing}, now it would be by {wanted}: use another "
            "--workspace, or set runtime.road=spark for one run"
        )
    for action in pa.table(delta.get_add_actions(flatten=True)).to_pylist():
        partition = {n.removeprefix("partition."): v for n, v in action.items() if n.startswith("partition.")}
        if output.replaces(partition) and not action["path"].isascii():
            raise DataError(
                f"table {output.table.name} has the file {action['path']}, which Spark named and only Spark can "
                "replace: set runtime.road=spark"
            )
