"""Consumes raw rows and a split, produces what a plain booster tells of the test period after a search of Optuna's."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._real import talks
from benchmarks._session import CORES

PARTS = ("train", "tune", "calibrate", "test")
ROUNDS, STOPPING, SEED = 1000, 50, 7
DATES = ("year", "month", "day", "weekday", "ordinal_day")
GONE = ("constant", "week_start", "date_parsed")  # a constant, and other writings of the time


def write_rows(context: Any, folder: Path, returns: str | None) -> None:
    """Raw columns, parts of the date, target and part of the split of each labelled row; a file per target."""
    import polars as pl

    from assay.pipeline import JOBS
    from assay.training.job import Training

    for job in ("ingest", "build_features"):
        JOBS[job].run(context)
    dataset = context.config.dataset
    raw = _raw(context, returns)
    hidden = {t.source_column for t in dataset.targets} | {context.config.dataset.time.column or "", *GONE}
    once = raw.select(pl.struct(dataset.entity).is_unique().mean()).item() > 0.9  # an identity says nothing
    hidden |= set(dataset.entity) if once else set()
    categorical = sorted(({*dataset.columns.categorical} | (set() if once else {*dataset.entity})) & set(raw.columns))
    for target in dataset.targets:
        training = Training(context, target, context.plane.version("features"))
        split = training.split(training.rows.times())
        keys = list(dataset.entity)
        found = []
        for part in PARTS:
            rows = pl.from_arrow(
                training.rows.read([*keys, training.column, "row_id", "time"], getattr(split, part)).collect()
            )
            assert isinstance(rows, pl.DataFrame)
            actual = rows[training.column].cast(pl.Float64)
            found.append(rows.select(*keys, "row_id", "time").with_columns(actual=actual, part=pl.lit(part)))
        parts = pl.concat(found).with_columns(pl.col(keys).cast(pl.String))
        on = [*keys, "time"] if dataset.time.dated else keys
        joined = parts.join(_keyed(raw, keys), on=on, how="left", validate="m:1")
        told = [c for c in raw.columns if c not in hidden and c != "time"]
        dates = [_date(name) for name in DATES] if dataset.time.dated else []
        frame = joined.with_columns(pl.col(categorical).cast(pl.String), *dates)
        frame.write_parquet(folder / f"{training.column}.parquet")
        facts = {
            "target": target.name,
            "classes": training.outcome.decides,
            "log": target.transform == "log" and returns is None,
            "returns": returns is not None,
            "inputs": told + [f"date_{name}" for name in (DATES if dataset.time.dated else ())],
            "categorical": [c for c in categorical if c in told],
        }
        (folder / f"{training.column}.json").write_text(json.dumps(facts), encoding="utf-8")


def _raw(context: Any, returns: str | None) -> Any:
    """The file's rows with their time; of a target that is known when the day is over, the day before's columns."""
    import polars as pl

    from assay.ingest.files import find_place

    dataset, place = context.config.dataset, find_place(context.config)
    assert place is not None
    raw = pl.read_parquet(place)
    if dataset.time.dated:
        column = pl.col(dataset.time.column)
        parsed = (
            column.str.to_datetime(dataset.time.format or "%Y-%m-%d", strict=False)
            if raw.schema[dataset.time.column] == pl.String
            else column
        )
        raw = raw.with_columns(time=parsed.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    texts = [n for n, k in raw.schema.items() if k == pl.String and n in dataset.columns.numeric]
    raw = raw.with_columns(pl.col(texts).str.strip_chars().cast(pl.Float64, strict=False))
    if returns is not None:
        raw = raw.unique([*dataset.entity, "time"], keep="last", maintain_order=True).sort(*dataset.entity, "time")
        raw = raw.filter(pl.col(returns) > 0.01)
        later = [
            c
            for c in raw.columns
            if c not in (*dataset.entity, *dataset.columns.categorical, "time", dataset.time.column)
        ]
        raw = raw.with_columns(pl.col(later).shift(1).over(dataset.entity))
        before = pl.col(returns)
        raw = raw.with_columns(before=before, last_return=(before / before.shift(1).over(dataset.entity)).log())
    return raw


def _keyed(raw: Any, keys: list[str]) -> Any:
    import polars as pl

    names = [*keys, *(["time"] if "time" in raw.columns else [])]
    rows = raw.with_columns(pl.col(keys).cast(pl.String))
    return rows.unique(names, keep="last", maintain_order=True)


def _date(name: str) -> Any:
    import polars as pl

    return getattr(pl.col("time").dt, name)().cast(pl.Float64).alias(f"date_{name}")


@dataclasses.dataclass(frozen=True)
class Task:
    """One target's rows: inputs as a frame of numbers and categories, label as it is learned, part of the split."""

    inputs: Any
    label: Any
    part: Any
    classes: bool
    categorical: list[str]

    def of(self, *parts: str) -> tuple[Any, Any]:
        """Inputs and label of some parts."""
        chosen = np.isin(self.part, parts)
        return self.inputs[chosen], self.label[chosen]


def predicted(folder: Path, kind: str, trials: int) -> Any:
    """What a booster tells of the test rows of every target: row_id, time, told, target, actual (and before)."""
    import polars as pl

    found = []
    for path in sorted(folder.glob("*.json")):
        facts, rows = json.loads(path.read_text(encoding="utf-8")), pl.read_parquet(path.with_suffix(".parquet"))
        if facts["returns"]:
            label = (rows["actual"] / rows["before"]).log()
        else:
            label = rows["actual"].log() if facts["log"] else rows["actual"]
        part = rows["part"].to_numpy()
        part[~np.isfinite(label.cast(pl.Float64).fill_null(np.nan).to_numpy()) & (part != "test")] = "none"
        inputs = rows.select(facts["inputs"]).with_columns(
            pl.col(pl.Boolean).cast(pl.Float64), pl.col(facts["categorical"]).fill_null("missing")
        )
        frame = inputs.to_pandas()
        for name in facts["categorical"]:
            known = sorted(set(frame.loc[part != "test", name]))  # one that is first seen later is unknown
            frame[name] = frame[name].astype(_categories(known))
        task = Task(frame, label.to_numpy(), part, facts["classes"], facts["categorical"])
        told = SEARCHES[kind](task, trials)
        test = rows.filter(pl.col("part") == "test").with_columns(told=pl.Series(told), target=pl.lit(facts["target"]))
        if facts["returns"]:
            test = test.with_columns(told=pl.col("before") * pl.col("told").exp())
        elif facts["log"]:
            test = test.with_columns(told=pl.col("told").exp())
        more = ["before", "last_return"] if facts["returns"] else []
        found.append(test.select("row_id", "time", "told", "target", "actual", *more))
    return pl.concat(found)


def _categories(known: list[str]) -> Any:
    import pandas as pd

    return pd.CategoricalDtype(known)


def _study(objective: Callable[[Any], float], trials: int) -> Any:
    """The best trial; parameters by TPE, trials that lag behind the median end early."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=SEED), pruner=optuna.pruners.MedianPruner(n_warmup_steps=50)
    )
    study.optimize(objective, n_trials=trials, show_progress_bar=talks())
    return study.best_trial


def pruning(trial: Any) -> Any:
    """XGBoost's callback that reports each round's loss on `tune`, and ends the trial where Optuna says so."""
    import optuna
    import xgboost as xgb

    class Pruning(xgb.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            trial.report(next(iter(evals_log["tune"].values()))[-1], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
            return False

    return Pruning()


def _xgboost(task: Task, trials: int) -> Any:
    import xgboost as xgb

    fixed = {"tree_method": "hist", "nthread": CORES, "seed": SEED}
    fixed |= {"objective": "binary:logistic", "eval_metric": "logloss"} if task.classes else {"eval_metric": "rmse"}

    def matrix(inputs: Any, label: Any = None, ref: Any = None) -> Any:
        return xgb.QuantileDMatrix(inputs, label, enable_categorical=True, nthread=CORES, ref=ref)

    train = matrix(*task.of("train"))
    tune = matrix(*task.of("tune"), ref=train)

    def objective(trial: Any) -> float:
        told = {
            "eta": trial.suggest_float("eta", 0.01, 0.3, log=True),
            "max_depth": trial.suggest_int("max_depth", 3, 10),
            "min_child_weight": trial.suggest_float("min_child_weight", 1, 100, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1.0),
            "lambda": trial.suggest_float("lambda", 1e-3, 100, log=True),
        }
        booster = xgb.train(
            {**fixed, **told},
            train,
            ROUNDS,
            evals=[(tune, "tune")],
            early_stopping_rounds=STOPPING,
            callbacks=[pruning(trial)],
            verbose_eval=False,
        )
        trial.set_user_attr("rounds", booster.best_iteration + 1)
        return float(booster.best_score)

    best = _study(objective, trials)
    known = matrix(*task.of("train", "tune", "calibrate"))
    booster = xgb.train({**fixed, **best.params}, known, best.user_attrs["rounds"])
    return booster.predict(xgb.DMatrix(task.of("test")[0], enable_categorical=True))


def _catboost(task: Task, trials: int) -> Any:
    import catboost
    import optuna

    fixed: dict[str, Any] = {"thread_count": CORES, "random_seed": SEED, "allow_writing_files": False, "verbose": False}
    fixed["loss_function"] = "Logloss" if task.classes else "RMSE"

    def pool(inputs: Any, label: Any = None) -> Any:
        texts = inputs.astype(dict.fromkeys(task.categorical, str))
        return catboost.Pool(texts, label, cat_features=task.categorical)

    train, tune = pool(*task.of("train")), pool(*task.of("tune"))

    class Reporting:
        def __init__(self, trial: Any) -> None:
            self.trial, self.pruned = trial, False

        def after_iteration(self, info: Any) -> bool:
            self.trial.report(info.metrics["validation"][fixed["loss_function"]][-1], info.iteration)
            self.pruned = self.trial.should_prune()
            return not self.pruned

    def objective(trial: Any) -> float:
        told = {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "depth": trial.suggest_int("depth", 4, 10),
            "l2_leaf_reg": trial.suggest_float("l2_leaf_reg", 1, 30, log=True),
            "random_strength": trial.suggest_float("random_strength", 1e-2, 10, log=True),
            "bagging_temperature": trial.suggest_float("bagging_temperature", 0, 1),
        }
        reporting = Reporting(trial)
        model = catboost.CatBoost({**fixed, **told, "iterations": ROUNDS, "od_type": "Iter", "od_wait": STOPPING})
        model.fit(train, eval_set=tune, callbacks=[reporting])
        if reporting.pruned:
            raise optuna.TrialPruned
        trial.set_user_attr("rounds", int(model.get_best_iteration()) + 1)
        return float(model.get_best_score()["validation"][fixed["loss_function"]])

    best = _study(objective, trials)
    model = catboost.CatBoost({**fixed, **best.params, "iterations": best.user_attrs["rounds"]})
    model.fit(pool(*task.of("train", "tune", "calibrate")))
    kind = "Probability" if task.classes else "RawFormulaVal"
    told = model.predict(pool(task.of("test")[0]), prediction_type=kind)
    return told[:, 1] if task.classes else told


SEARCHES: dict[str, Callable[[Task, int], Any]] = {"xgboost": _xgboost, "catboost": _catboost}
