"""Consumes a look at an experiment, produces its row of `experiments`, in place of one of the same day."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from assay.deployment.evidence import Evidence
from assay.model.deployments import Deployment
from assay.runtime.conditions import Condition
from assay.runtime.deployment_tables import EXPERIMENTS
from assay.runtime.job import JobContext
from assay.runtime.plane import Output, Written


def write_look(
    context: JobContext, deployment: Deployment, found: Evidence, job: str, identity: str
) -> Sequence[Written]:
    """Put what the days until now say of a deployment on record; nothing where no day has matured."""
    if found.looked_until is None:
        return []
    settings, owns = deployment.experiments, {"target": deployment.target, "experiment": deployment.deployment_id}
    row = {
        **found.decision.to_row(),
        "looked_until": found.looked_until,
        "champion": deployment.champion,
        "challenger": deployment.challenger,
        "loss": found.compared.loss,
        **{name: getattr(settings, name) for name in ("alpha", "min_effect", "max_days", "harm_margin")},
        "harm_p": found.harm.p,
        **owns,
    }
    plane, schema = context.plane, EXPERIMENTS.schema()
    rows = []
    version = plane.version(EXPERIMENTS.name)
    if version is not None:
        where = [Condition(name, "==", value) for name, value in owns.items()]
        rows = plane.read(EXPERIMENTS.name, version=version, where=where).collect().to_pylist()
    kept = [one for one in rows if one["looked_until"] != row["looked_until"]]
    table = pa.Table.from_pylist([*kept, row], schema)
    commit = context.commit(job, deployment.target, identity)
    return plane.rows_of(EXPERIMENTS, schema, table).write([Output(EXPERIMENTS, schema, commit, owns=owns)])
