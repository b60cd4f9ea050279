"""Consumes a registered model, produces a pandas UDF that says of any row what the job `score` would say.

from assay.scoring.udf import champion_of, predict_udf

model = champion_of("workspace/txhousing")
price = predict_udf(model)
frame.withColumn("p", price(model_struct(model)))            # a notebook, or a stream
spark.udf.register("price", price)                           # SQL: SELECT price(struct(*)).prediction FROM t
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from assay import extensions
from assay.config.profile import ScoringConfig
from assay.errors import DataError
from assay.model.registry import Calibrated, Champion, load_registered, registered_models
from assay.model.row_sample import ROW
from assay.model.versions import CHAMPION
from assay.runtime.lake import dataset_on_record, store_on_record
from assay.runtime.session import ship_extensions
from assay.scoring.scorer import Scorer

if TYPE_CHECKING:
    from pyspark.sql import Column


def champion_of(workspace: str | Path, target: str | None = None, *, which: str = CHAMPION) -> Champion:
    """The champion of a workspace folder, or another version by its number or alias; every file's hash is checked.

    From the MLflow store that its jobs used last; where its tables lie is no matter.

    target: needed where the workspace has models of several.

    Raises:
        DataError: there is no MLflow store, no such model, or more than one and `target` does not say which.
        AssayError: a file was changed.
    """
    folder = Path(workspace).absolute()
    own, uri = folder / "mlflow.db", store_on_record(folder)
    if uri == f"sqlite:///{own}" and not own.is_file():
        raise DataError(f"{workspace} has no mlflow.db: run the jobs with --workspace {workspace} first")
    names = {found: name for name, found in registered_models(uri, dataset_on_record(folder)).items()}
    if target is None and len(names) == 1:
        (target,) = names
    if target not in names:
        listed = ", ".join(sorted(names)) or "none"
        raise DataError(f"{workspace}: which target's model? target={target!r}; there are those of {listed}")
    return load_registered(f"models:/{names[target]}@{which}", uri)


def model_columns(model: Calibrated) -> list[str]:
    """Columns that a frame must have: the model's inputs and those of its segments."""
    return model.columns


def model_struct(model: Calibrated, *, row_ids: bool = False) -> Column:
    """The struct of these columns of a frame. row_ids: and of `row_id`, so that adaptive sets are the job's."""
    from pyspark.sql import functions as F  # noqa: N812

    return F.struct(
        *(F.col("`" + name.replace("`", "``") + "`").alias(name) for name in [*model_columns(model), *[ROW] * row_ids])
    )


def predict_udf(
    model: Calibrated | str, *, tracking_uri: str | None = None, config: ScoringConfig | None = None
) -> Any:
    """An iterator pandas UDF: a struct with the model's columns, others among them, -> a struct of what is said.

    model: of `champion_of`, or `models:/NAME@ALIAS` of the MLflow store `tracking_uri` (default: MLflow's own).
    config: batch size and rules of quality.
    Returns:
        prediction; lower_80, upper_80, width_80, ... of each level; confidence, risk, quality, quality_reasons,
        segment; of an ensemble disagreement; of classes predicted_class, probabilities and set_80, ... and no bounds.
        The names and meanings are those of the table `predictions`. A row that cannot be scored has quality `bad`, and
        fails nothing. Adaptive sets of a struct without `row_id` hold those that the job `score` makes. Works in a
        select, in SQL once registered, and in a streaming query.

    Raises:
        DataError: there is no such model; or, while it runs, the struct lacks a column.
        AssayError: a file of the model was changed.
    """
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import pandas_udf
    from pyspark.sql.pandas.types import from_arrow_schema

    if isinstance(model, str):
        import mlflow

        registry_uri = tracking_uri or mlflow.get_registry_uri()
        model = load_registered(model, tracking_uri or mlflow.get_tracking_uri(), registry_uri)
    config = config or ScoringConfig()
    scorer = Scorer.of(model, config)
    rows, extended = config.batch_rows, extensions.carried()
    session = SparkSession.getActiveSession()
    if extended and session is not None:
        ship_extensions(session)

    def predict(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        extensions.accept(extended)
        for frame in frames:
            parts = [_scored(scorer, frame.iloc[i : i + rows]) for i in range(0, len(frame), rows)]
            yield pd.concat(parts, ignore_index=True) if parts else _scored(scorer, frame)

    return pandas_udf(predict, from_arrow_schema(scorer.schema))


def _scored(scorer: Scorer, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows as Spark hands them over -> what is said of them."""
    missing = [name for name in scorer.inputs if name not in frame.columns]
    if missing:
        raise DataError(
            f"the struct lacks {len(missing)} of the model's {len(scorer.inputs)} columns, {missing[0]!r} among them: "
            "give it all of model_columns(model)"
        )
    names = [*scorer.inputs, *([ROW] if ROW in frame.columns and ROW not in scorer.inputs else [])]
    arrays = [pa.Array.from_pandas(frame[name]) for name in names]
    found: pd.DataFrame = scorer(pa.RecordBatch.from_arrays(arrays, names=names)).to_pandas()
    return found
