"""Consumes `events`, produces `observations`: one per entity and period, with what is known and what comes of it."""

from __future__ import annotations

from assay.config.dataset import stored_name
from assay.errors import AssayError, DataError, from_worker
from assay.ingest.panel import BuildPanel
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.newest import newest_time
from assay.runtime.plane import Output
from assay.runtime.tables import EVENTS, OBSERVATIONS, observation_fields

JOB = "panel"


def plan(context: JobContext) -> Plan:
    """What is about to be made of the events."""
    version = context.version(EVENTS.name, made_by="ingest")
    return Plan(
        job=JOB,
        inputs={EVENTS.name: version},
        sections=("dataset",),
        slots=[(OBSERVATIONS.name, "all")],
        execute=lambda identity: _execute(context, identity, version),
    )


def _execute(context: JobContext, identity: str, version: int) -> Done:
    plane, dataset = context.plane, context.config.dataset
    assert dataset.events is not None
    schema = OBSERVATIONS.schema(observation_fields(dataset))
    newest = newest_time(plane.read(EVENTS.name, version=version, columns=["time"]))
    if newest is None:
        raise DataError("table events has no rows to make observations of; change dataset.source")
    with context.reporter.step(f"observations per {' and '.join(dataset.entity)} and {dataset.events.period}"):
        rows = (
            plane.read(EVENTS.name, version=version)
            .by_key([stored_name(name) for name in dataset.entity], rows_hint=plane.rows(EVENTS.name, version))
            .map(BuildPanel(dataset, newest), schema)
        )
        try:
            (written,) = rows.write([Output(OBSERVATIONS, schema, context.commit(JOB, "all", identity))])
        except AssayError:
            raise
        except Exception as error:
            raise from_worker(error) or error from None
    told = f"{written.rows:,} observations of {newest:%Y-%m-%d} and before, one per {dataset.events.period}"
    return Done(metrics={"rows_made": written.rows}, written=[written], summary=[told])
