"""Consumes README's example queries, checks that Spark finds every table and column that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from assay.runtime.spark_names import quoted
from assay.workspace import DECLARED

pytestmark = pytest.mark.spark

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sql\n(.*?)```", README, flags=re.DOTALL)
QUERIES = [q.strip() for block in BLOCKS for q in re.sub(r"--.*", "", block).split(";") if q.strip()]
OF_DATA = {  # columns that a level, or a dataset, adds
    "predictions": ("lower_80", "upper_80", "width_80", "predicted_class"),
    "shadow_predictions": ("lower_80", "upper_80", "width_80"),
    "performance": ("coverage_80", "width_80"),
    "observations": ("MachineID", "ModelID", "zipcode", "store", "brand", "CustomerID"),
}


@pytest.fixture(scope="module")
def views(spark):
    """A view of each declared table, without rows, in a session of its own."""
    from pyspark.sql.pandas.types import from_arrow_schema

    session = spark.newSession()
    for table in DECLARED.values():
        schema = table.schema([pa.field(name, pa.float64()) for name in OF_DATA.get(table.name, ())])
        session.createDataFrame([], from_arrow_schema(schema)).createTempView(quoted(table.name))
    return session


def test_there_are_queries_of_the_tables_of_a_models_life():
    named = set(re.findall(r"(?:FROM|JOIN) (\w+)", " ".join(QUERIES)))
    assert named <= set(DECLARED)
    assert named >= {
        *("model_registry", "predictions", "shadow_predictions", "deployments", "experiments", "training_metrics"),
        *("drift_detections", "performance", "health", "alerts", "alert_deliveries", "retrain_queue"),
    }


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_what_there_is(views, query):
    assert views.sql(query).collect() == []
