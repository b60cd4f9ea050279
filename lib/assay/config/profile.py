"""Consumes a profile YAML, produces a `ProfileConfig`: how hard a run tries and what it must reach."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.alerts import AlertsConfig
from assay.config.conformal import ConformalConfig, Share
from assay.config.deployment import DeploymentConfig
from assay.config.ensemble import EnsembleConfig
from assay.config.evaluation import EvaluationConfig
from assay.config.experiments import ExperimentsConfig
from assay.config.monitoring import MonitoringConfig
from assay.config.preparation import PreparationConfig
from assay.config.quality import QualityConfig
from assay.config.registry import RegistryConfig
from assay.config.retraining import RetrainingConfig
from assay.config.segmentation import SegmentationConfig
from assay.config.strict import STRICT
from assay.config.tuning import TuningConfig

ENGINES = ("xgboost", "catboost", "linear", "knn", "svm", "decision_tree", "random_forest", "lstm", "gru")
MONOTONE = ("xgboost", "catboost")  # engines whose inputs may be made monotone
SAMPLED = ("knn", "svm", "decision_tree", "random_forest")  # engines that learn from a sample in one rank


@dataclass(frozen=True, config=STRICT)
class AdvancedTrainingConfig:
    """Feature flags and quality thresholds of a training run.

    enable_advanced_ensemble: several learners instead of one (section `ensemble`). use_stacking: let a meta-learner
        combine them. use_voting: let their mean or median.
    min_business_accuracy: percent of test predictions within 20 % of the outcome.
    force_production_quality: a model that misses a threshold is recorded but not registered, and the job exits 3.
    """

    enable_advanced_features: bool = False
    enable_temporal_features: bool = True
    enable_market_features: bool = True
    enable_interaction_features: bool = False
    enable_hyperparameter_tuning: bool = False
    use_optuna: bool = True
    max_evals: Annotated[int, Field(ge=1)] = 50
    enable_advanced_ensemble: bool = False
    use_stacking: bool = True
    use_voting: bool = True
    force_production_quality: bool = True
    min_r2_threshold: Annotated[float, Field(le=1)] = 0.75
    min_business_accuracy: Annotated[float, Field(ge=0, le=100)] = 70.0


@dataclass(frozen=True, config=STRICT)
class SplitConfig:
    """Train, tune, calibrate and test. Each share is of the labelled rows.

    method: `forward` goes by time, train < tune < calibrate < test, and cuts between times. `random` draws rows by the
        hash that is their `row_id`, `stratified` does so class by class; both let a model look ahead, so they are for
        rows without a time. `auto` is forward where rows have one, else stratified for classes, random for numbers.
    embargo_days: gap before tune, calibrate and test; rows inside it are used by none.
    """

    method: Literal["auto", "forward", "random", "stratified"] = "auto"

    tune: Share = 0.10
    calibrate: Share = 0.15
    test: Share = 0.20
    embargo_days: Annotated[float, Field(ge=0)] = 0.0


@dataclass(frozen=True, config=STRICT)
class ValidationConfig:
    """How much a model's error differs from fold to fold, besides the one figure of the test period.

    method: `rolling` learns from all rows before a block and is judged by the block, for consecutive blocks up to the
        test period; `kfold` is judged by each of as many blocks of time, having learned from those before and after
        (rows without a time are drawn); `stratified` draws folds class by class. Each fold learns anew with the inputs
        and rounds that train and tune chose. `none` does without.
    folds: how many.  share: of the rows before the test period, what a block of `rolling` has.
    purge_days: rows so shortly before a block teach no judge of it (at least the target's delay).
    embargo_days: with `kfold`, neither do rows so shortly after it.
    """

    method: Literal["none", "rolling", "kfold", "stratified"] = "none"
    folds: Annotated[int, Field(ge=2, le=50)] = 5
    share: Share = 0.10
    purge_days: Annotated[float, Field(ge=0)] = 0.0
    embargo_days: Annotated[float, Field(ge=0)] = 0.0


@dataclass(frozen=True, config=STRICT)
class GatesConfig:
    """What a new model must reach on its own test period, besides the thresholds of `training`.

    champion: refuse a model that is worse than the champion.  champion_confidence: how sure that must be; resampling
    whole days is what says it, `champion_resamples` times.
    coverage_shortfall: how much less than promised an interval may hold, as a share of all test outcomes; None lets
    any coverage pass.
    """

    champion: bool = True
    coverage_shortfall: Annotated[float, Field(ge=0, le=1)] | None = 0.10
    champion_confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    champion_resamples: Annotated[int, Field(ge=100, le=100_000)] = 2_000


@dataclass(frozen=True, config=STRICT)
class EngineConfig:
    """The learner.

    name: one of `ENGINES`, or of an extension. `linear` is ridge regression or an elastic net, `svm` has a radial
        kernel. What is said of rounds is of boosting alone; a tune period, however, there is for every engine, unless
        `early_stopping_rounds` is 0.
    params: passed to the engine over its defaults.
    rounds: most boosting rounds; early stopping on the tune period may choose fewer.
    early_stopping_rounds: 0 switches early stopping off.
    refit: after early stopping, fit again on train and tune together with the rounds that were chosen.
    ranks: workers that train together; 0 takes one per task slot, as far as the rows are worth it, but for CatBoost one
        while the rows fit its memory: beyond that each learns from its own share, and the model is their mean.
    min_rows_per_rank: rows of train that make another rank worth it; 0 is the engine's own: 100,000 for XGBoost, whose
        ranks send one another much, and 1,000,000 on one machine, where one rank uses all cores; 20,000 for others.
    memory_share: of an executor's memory, what CatBoost's learning may take by its estimate where ranks is 0.
    weight_halflife_days: a row that is so much older than the newest training row counts half as much; None lets all
        rows count alike. How the model does on tune and later is never weighted.
    checkpoint_rounds: rounds between checkpoints, which the driver keeps: when an executor is lost, no more are
        repeated, and the model is the one of an undisturbed run. 0 switches them off. Another number draws other rows
        and columns after so many rounds.
    monotone: numeric input -> 1 (predictions never fall as it rises) or -1 (never rise), on the model's scale.
    quantiles: levels of the quantiles that XGBoost and CatBoost learn of a number, all in one model; the one nearest to
        0.5 is the prediction. None of them learns the mean. Targets of classes have none.
    shrink_changes: a model of changes (`relative_to: last_value`) goes as far from the last known value as outcomes of
        the calibration period followed it, and not at all where they did not; false takes its changes as they are.
    sample_rows: most rows that the engines of `SAMPLED` learn from, drawn by a hash of `row_id`; 0 is the engine's own.
    """

    name: str = "xgboost"
    params: dict[str, Any] = Field(default_factory=dict)
    rounds: Annotated[int, Field(ge=1, le=100_000)] = 600
    early_stopping_rounds: Annotated[int, Field(ge=0)] = 40
    refit: bool = True
    ranks: Annotated[int, Field(ge=0)] = 0
    min_rows_per_rank: Annotated[int, Field(ge=0)] = 0
    sample_rows: Annotated[int, Field(ge=0)] = 0
    quantiles: tuple[Share, ...] = ()
    shrink_changes: bool = True
    memory_share: Share = 0.5
    seed: int = 7
    weight_halflife_days: Annotated[float, Field(gt=0)] | None = None
    checkpoint_rounds: Annotated[int, Field(ge=0)] = 50
    monotone: dict[str, Literal[1, -1]] = Field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class ServingConfig:
    """Which model serves.

    learns_until: `tune` serves the model that was tested, which learned from train and tune. `newest` serves one that
        learned from all rows whose outcome is known, and tests one that learned from all that were known when the test
        period began: parameters, inputs and rounds are those that train and tune chose.
    """

    learns_until: Literal["tune", "newest"] = "newest"


@dataclass(frozen=True, config=STRICT)
class ScoringConfig:
    """Predictions of rows.

    batch_rows: rows that a model is given at once.
    shadows: registered versions, by number or alias, that score the same rows into `shadow_predictions`; `price:2` is
        of the target price alone.
    important_share: of the importance of all inputs, what makes one important: a row that misses it, or has it outside
        of the range of training, gets a warning.
    bad_missing_share: of the inputs that training rows usually had, what a bad row misses more of.
    """

    batch_rows: Annotated[int, Field(ge=1, le=10_000_000)] = 65_536
    shadows: tuple[str | int, ...] = ()
    important_share: Share = 0.05
    bad_missing_share: Share = 0.5


@dataclass(frozen=True, config=STRICT)
class ExplainConfig:
    """What is explained of a model's predictions.

    rows: evaluated rows whose predictions are taken apart, drawn by a hash of `row_id`; 0 explains none.
    features: of a row, those that add most; the others are put together.
    """

    rows: Annotated[int, Field(ge=0, le=100_000)] = 2_000
    features: Annotated[int, Field(ge=1, le=1_000)] = 20


@dataclass(frozen=True, config=STRICT)
class IngestConfig:
    """What makes ingest refuse (exit 3).

    max_quarantine_share: share of bad rows above which it does.
    min_quality_score: overall quality score, 0 to 100, below which it does.
    quality_limits: quality metric -> the share that it must reach, or must not exceed.
    """

    max_quarantine_share: Annotated[float, Field(ge=0, le=1)] = 0.10
    min_quality_score: Annotated[float, Field(ge=0, le=100)] = 50.0
    quality_limits: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class RuntimeConfig:
    """Where tables live and which road rows take.

    road: `arrow` reads and writes table files on executors, `spark` goes through Spark's reader and writer;
        `auto` takes arrow where executors share the table's file system.
    lake: URI of the folder of tables, on any file system that Spark knows (`hdfs://`, `s3a://`, ...); empty means
        `lake` in the workspace. The workspace's other files stay on the driver.
    catalog: `catalog.schema` for tables in a catalog instead of a folder.
    tracking_uri: MLflow store; empty means `mlflow.db` in the workspace.
    registry_uri: where models are registered; empty means the store's own, and Unity Catalog's beside
        `tracking_uri=databricks` and a catalog.
    experiment_folder: what the experiment's name begins with; empty means `assay`, on Databricks `/Shared/assay`.
    environment: `environment.tar.gz` of `./spark-submit.sh pack`, which executors of a cluster then unpack and run;
        empty takes what the variable ASSAY_ENVIRONMENT names, or the libraries that executors have. A session that
        somebody else started is left as it is.
    rows_per_task: rows that are worth a task of their own.
    extensions: modules (`company.engines`) or files (`huber.py`, from the current folder) whose engines, feature
        families and conformity scores may be used. They are imported, and sent to executors where they are not part of
        an installed package.
    """

    road: Literal["auto", "arrow", "spark"] = "auto"
    lake: str = ""
    catalog: str = ""
    tracking_uri: str = ""
    registry_uri: str = ""
    experiment_folder: str = ""
    environment: str = ""
    rows_per_task: Annotated[int, Field(ge=1)] = 250_000
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True, config=STRICT)
class ProfileConfig:
    """Everything about a run that is not about the data."""

    training: AdvancedTrainingConfig = AdvancedTrainingConfig()
    split: SplitConfig = SplitConfig()
    validation: ValidationConfig = ValidationConfig()
    preparation: PreparationConfig = PreparationConfig()
    engine: EngineConfig = EngineConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    tuning: TuningConfig = TuningConfig()
    gates: GatesConfig = GatesConfig()
    serving: ServingConfig = ServingConfig()
    conformal: ConformalConfig = ConformalConfig()
    scoring: ScoringConfig = ScoringConfig()
    explain: ExplainConfig = ExplainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    deployment: DeploymentConfig = DeploymentConfig()
    experiments: ExperimentsConfig = ExperimentsConfig()
    ingest: IngestConfig = IngestConfig()
    quality: QualityConfig = QualityConfig()
    alerts: AlertsConfig = AlertsConfig()
    registry: RegistryConfig = RegistryConfig()
    retraining: RetrainingConfig = RetrainingConfig()
    runtime: RuntimeConfig = RuntimeConfig()
