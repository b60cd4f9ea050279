"""A workspace with registered models and the tables that registry commands read, without Spark."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa

from assay.config import load_run
from assay.config.deployment import DeploymentConfig
from assay.config.experiments import ExperimentsConfig
from assay.deployment.registry_context import open_context
from assay.model.deployments import Deployment, Move, State, deployment_rows
from assay.runtime.deployment_tables import DEPLOYMENTS
from assay.runtime.local_plane import LocalPlane
from assay.runtime.plane import Commit, Output
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings
from assay.runtime.tables import FEATURES, PREDICTIONS, SHADOW_PREDICTIONS
from small_models import SmallRegistry


class Lab(SmallRegistry):
    """A registry with tables, and the commands as the command line runs them."""

    @property
    def plane(self):
        return LocalPlane(self.workspace / "lake")

    def context(self, *overrides, date=None):
        config = load_run(dataset=self.dataset, workspace=self.workspace, overrides=overrides, date=date)
        return open_context(config, SparkSettings(), Reporter(quiet=True))

    def write(self, table, rows, schema, slot="all", owns=None, **details):
        commit = Commit(-1, "test", slot, "i", details)
        given = pa.Table.from_pylist(rows, schema)
        self.plane.rows_of(table, schema, given).write([Output(table, schema, commit, owns=owns or {})])

    def build_features(self, plan_hash="abc123", columns=("size", "price__own__lag_1", "city")):
        """The table `features`, built by a plan."""
        kinds = {"city": pa.string()}
        schema = FEATURES.schema([pa.field(name, kinds.get(name, pa.float32())) for name in columns])
        self.write(FEATURES, [{"row_id": 1, "month": "2024-01"}], schema, plan_hash=plan_hash)

    def predict(self, number, days_ago, *, shadow=False, tested=False, run_id=None):
        """A prediction that a version made of a row of so many days ago."""
        tags, time = self.tags(number), dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=days_ago)
        which = ("tested_version", "tested_calibration_version") if tested else ("model_version", "calibration_version")
        row = {"row_id": 1, "time": time, "prediction": 1.0, "target": "price", "month": f"{time:%Y-%m}"}
        row |= dict(zip(("model_version", "calibration_version"), (tags[f"assay.{one}"] for one in which), strict=True))
        table = SHADOW_PREDICTIONS if shadow else PREDICTIONS
        row |= {"shadow": number} if shadow else {}
        details = {"run_id": run_id or tags["assay.run_id"]}
        self.write(table, [row], table.schema(), "price", {"target": "price"}, **details)

    def deploy(self, *deployments):
        """Deployments: (id, states after it was planned, champion, challenger)."""
        found = []
        for number, (name, states, *versions) in enumerate(deployments):
            at = dt.datetime(2024, 1, 1 + number, tzinfo=dt.timezone.utc)
            moves = [Move(State(state), 0.0, 0, at, "test", "a test", made_at=at) for state in ("planned", *states)]
            settings = DeploymentConfig(), ExperimentsConfig()
            found.append(Deployment(name, "price", *versions, ("m1", "m2"), *settings, tuple(moves)))
        self.write(DEPLOYMENTS, deployment_rows(found).to_pylist(), DEPLOYMENTS.schema())

    def table(self, name):
        from deltalake import DeltaTable

        return DeltaTable(self.workspace / "lake" / name).to_pyarrow_table().to_pylist()

    def aged(self, **days):
        """Versions, each as if it had been registered so many days ago: aged(v1=40, v2=10)."""
        for number, ago in days.items():
            then = (dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=ago)).isoformat(timespec="seconds")
            self.client.set_model_version_tag(self.name, number[1:], "assay.registered_at", then)

    def numbers(self):
        return sorted(int(one.version) for one in self.client.search_model_versions(f"name = '{self.name}'"))

    def files_of(self, number):
        """Folder of a version's files."""
        source = self.client.get_model_version_download_uri(self.name, str(number))
        return type(self.workspace)(source.removeprefix("file://"))
