"""Consumes a dataset YAML, produces a `DatasetConfig`: what the observations are and when each column is known."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.events import EventsConfig
from assay.config.features import FeaturesConfig
from assay.config.quality import QualityRules
from assay.config.strict import STRICT, Days, Name
from assay.config.target import TargetConfig

RESERVED = (
    *(
        "row_id",
        "time",
        "month",
        "target",
        "prediction",
        "predicted_class",
        "probabilities",
        "segment",
        "reasons",
        "raw",
        "source_file",
        "source_row",
        "source_rows",
    ),
    *("model_version", "calibration_version"),
    *("own", "all"),  # how features call the entity's own history and the whole market
)
FIRST_YEAR, LAST_YEAR = 1678, 2261  # what times in nanoseconds can hold; further out there are only placeholders


CALENDAR = "calendar__"  # prefix of features that the time alone makes


def stored_name(name: str) -> str:
    """Name under which a source column is stored: Delta takes no spaces or any of ``,;{}()=`` in column names."""
    safe = "".join("_" if character in " ,;{}()\n\t\r=`." else character for character in name)
    return f"{safe}_" if safe.casefold() in RESERVED else safe


@dataclass(frozen=True, config=STRICT)
class JdbcConfig:
    """A database, read through its JDBC driver. Exactly one of `table` and `query` is given.

    user_env, password_env: names of the environment variables that hold them; they are never part of the configuration.
    driver: class of the driver, where its jar does not announce it.
    jars: paths or URIs of the driver's jar, where Spark does not have it already.
    partition_column: a number, date or timestamp by whose values several tasks share the reading, `partitions` of them.
    fetch_size: rows per round trip; 0 leaves it to the driver.
    options: more of Spark's JDBC options, such as `sessionInitStatement`.
    """

    url: str = ""
    table: str = ""
    query: str = ""
    driver: str = ""
    user_env: str = ""
    password_env: str = ""
    jars: tuple[Name, ...] = ()
    partition_column: str = ""
    partitions: Annotated[int, Field(ge=1, le=1000)] = 8
    fetch_size: Annotated[int, Field(ge=0)] = 0
    options: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class SourceConfig:
    """Where raw rows come from.

    path: file or folder; a relative one is looked for beside the YAML, in the current folder, then in `$ASSAY_DATA`.
        A URI (`s3://`, `hdfs://`, `abfss://`, `gs://`, `file://`) is opened through `pyarrow.fs`. Of `delta` it is the
        table's folder or URI, of `table` its name: `catalog.schema.table`. `jdbc` has none.
    format: `auto` goes by the suffix (.csv .txt .json .jsonl .ndjson .parquet .pq, all but Parquet also with .gz).
        `json` is one object per line, or one array of objects.
    version: of a Delta table, by path or in a catalog; without it the newest one is read.
    encoding: of the text of CSV and JSON files.
    null_values: texts in CSV and JSON files that mean "no value".
    removed_files: what happens to the rows of a file that a later run no longer finds. `drop` takes them out, which is
        what a first run on the same folder would give; `keep` leaves them (for folders that are emptied after each
        run); `refuse` stops.
    """

    path: str = ""
    format: Literal["auto", "csv", "parquet", "json", "delta", "table", "jdbc"] = "auto"
    version: Annotated[int, Field(ge=0)] | None = None
    jdbc: JdbcConfig = JdbcConfig()
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    null_values: tuple[str, ...] = ("", "NA", "null", "NULL")
    removed_files: Literal["drop", "keep", "refuse"] = "drop"

    @property
    def in_files(self) -> bool:
        """Whether rows are in files that tasks open, not in tables that Spark reads."""
        return self.format not in {"delta", "table", "jdbc"}


@dataclass(frozen=True, config=STRICT)
class AlignConfig:
    """One row per entity and period.

    frequency: a Polars duration: `1h`, `1d`, `1w` (from Monday), `1mo`, `1q`, `1y`, or several of them (`15m`, `2w`).
        A row's time becomes the start of its period, as clocks of `time.zone` show it.
    aggregate: what a number of several rows becomes; missing values do not take part. Texts become the last one.
    """

    frequency: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}(m|h|d|w|mo|q|y)$")]
    aggregate: Literal["last", "first", "mean", "sum", "min", "max"] = "last"


EPOCHS = {"%s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000, "epoch_ns": 1_000_000_000}  # units a second


@dataclass(frozen=True, config=STRICT)
class TimeConfig:
    """The time of an observation.

    column: where it stands. Without one, rows have no time: nothing has a history, and parts of rows are drawn.
    format: strptime format of a text column; without it ISO dates and timestamps are understood. Of numbers since 1970:
        `%s` of seconds, `epoch_ms`, `epoch_us` and `epoch_ns` of thousandths, millionths and billionths of one.
    zone: IANA zone of times that carry none; everything is stored in UTC.
    future: what to do with rows later than now: they are not known yet. Rows that `quarantine` has set aside come
        back by themselves once their time has come. (`--date` leaves later rows out of features and everything after.)
    align: brings irregular times to a frequency.
    """

    column: str = ""
    format: str | None = None
    zone: str = "UTC"
    future: Literal["quarantine", "keep"] = "quarantine"
    align: AlignConfig | None = None

    @property
    def dated(self) -> bool:
        """Whether rows have a time."""
        return bool(self.column)


@dataclass(frozen=True, config=STRICT)
class ColumnsConfig:
    """Which columns are read, and when each is known.

    numeric, categorical: known at the row's own time (size, type, a holiday flag); used as they are.
    outcomes: numeric, known only after the row's time (sales of the same month); used through history alone.
    """

    numeric: tuple[Name, ...] = ()
    categorical: tuple[Name, ...] = ()
    outcomes: tuple[Name, ...] = ()


@dataclass(frozen=True, config=STRICT)
class CalendarConfig:
    """Whose days count.

    country, subdivision: whose holidays: an ISO country code and, where it matters, a subdivision (`US`, `TX`).
    business: business days (of the country, else Monday to Friday), and how far month, quarter and year have come.
    market: code of a stock exchange (`NYSE`), whose sessions become features.
    hours: hour and minute of the local clock; by default where `features.group_step` is an hour.
    """

    country: str | None = None
    subdivision: str | None = None
    business: bool = False
    market: str | None = None
    hours: bool | None = None


@dataclass(frozen=True, config=STRICT)
class DatasetConfig:
    """One dataset, described by data and never by code.

    entity: columns that name the thing which is observed again and again (a city, a store and department).
    events: makes rows of the source events, of which observations are made.
    groups: markets, each a list of columns (an empty list is the whole market); their history becomes features.
    segments: columns by which results and calibration are split.
    availability_delay_days: column -> days after a row's time until its value is known. Applies to history.
    duplicates: rows of one entity at one time. `keep_first` and `keep_last` quarantine the others with a reason;
        `allow` keeps all of them (many sales of one model on a day). First and last go by the names of files and the
        order of rows in them; rows of tables have no order: of those the one that stays is any, but always the same.
    unknown_values: column -> values of the source that mean "not known" (a year of 1000, a meter at 0). They are
        missing from then on; the rows stay.
    bounds: column -> [lowest, highest] value that can be real; rows outside are quarantined.
    decision: target -> its weight in one score of what to go for; below 0 less of it is better.
    quality: what the data must look like, for the quality metrics.
    training: overrides of the profile's `training` section for this dataset.
    profiles: name of a profile -> keys of `features` and `calendar` that differ under it.
    preparation: the same for `preparation`, whose columns only a dataset can name; each of its keys as a whole.
    evaluation, ingest, segmentation, engine, ensemble, retraining: the same for these sections.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$")]
    source: SourceConfig
    entity: Annotated[tuple[Name, ...], Field(min_length=1)]
    targets: tuple[TargetConfig, ...]  # none of events
    time: TimeConfig = TimeConfig()
    events: EventsConfig | None = None
    columns: ColumnsConfig = ColumnsConfig()
    groups: tuple[tuple[Name, ...], ...] = ()
    segments: tuple[Name, ...] = ()
    availability_delay_days: dict[str, Days] = Field(default_factory=dict)
    duplicates: Literal["keep_first", "keep_last", "allow"] = "keep_last"
    unknown_values: dict[str, tuple[float | str, ...]] = Field(default_factory=dict)
    bounds: dict[str, tuple[float, float]] = Field(default_factory=dict)
    decision: dict[str, float] = Field(default_factory=dict)
    calendar: CalendarConfig = CalendarConfig()
    features: FeaturesConfig = FeaturesConfig()
    quality: QualityRules = QualityRules()
    training: dict[str, bool | int | float] = Field(default_factory=dict)
    profiles: dict[str, dict[Literal["features", "calendar"], dict[str, Any]]] = Field(default_factory=dict)
    preparation: dict[str, Any] = Field(default_factory=dict)
    evaluation: dict[str, Any] = Field(default_factory=dict)
    ingest: dict[str, Any] = Field(default_factory=dict)
    segmentation: dict[str, Any] = Field(default_factory=dict)
    engine: dict[str, Any] = Field(default_factory=dict)
    ensemble: dict[str, Any] = Field(default_factory=dict)
    retraining: dict[str, Any] = Field(default_factory=dict)
    description: str = ""

    def known_until(self, column: str, now: dt.datetime) -> dt.datetime:
        """Time of the newest rows whose `column` may be known now."""
        return now - dt.timedelta(days=self.delay_days(column))

    def delay_days(self, column: str) -> float:
        """Days after a row's time until `column` is known; 0 means right after it."""
        told = self.availability_delay_days.get(column, 0.0)
        if self.events is None:
            return told
        made_from = {target.name: target.source_column for target in self.targets}
        return told + self.events.delay_days(made_from.get(column, column))

    @property
    def ingested(self) -> DatasetConfig:
        """The dataset of the source's rows: itself, or that of the events, which has no targets."""
        if self.events is None or self.is_of_events:
            return self
        return DatasetConfig(
            name=self.name,
            source=self.source,
            entity=self.entity,
            targets=(),
            time=self.time,
            events=self.events.without_observations(),
            columns=ColumnsConfig(numeric=self.events.numeric, categorical=self.events.categorical),
            duplicates=self.duplicates,
            unknown_values=self.unknown_values,
            bounds=self.bounds,
            quality=self.quality,
        )

    @property
    def is_of_events(self) -> bool:
        """Whether its rows are events, not observations."""
        return self.events is not None and not self.targets

    @property
    def numeric_columns(self) -> tuple[str, ...]:
        """Every column kept as a number: attributes, outcomes, then targets (classes by their code), no repeats."""
        names = (*self.columns.numeric, *self.columns.outcomes, *(t.observed for t in self.targets))
        return tuple(dict.fromkeys(names))

    @property
    def labels(self) -> dict[str, TargetConfig]:
        """Targets of classes whose codes are kept as a number, by their name."""
        return {t.name: t for t in self.targets if t.decides and not t.derived}

    @property
    def observed_targets(self) -> tuple[TargetConfig, ...]:
        """Targets that the observations have themselves; of thresholds the numbers that they compare."""
        own = {t.name: t for t in self.targets if not t.derived}
        compared = {t.observed: TargetConfig(t.observed) for t in self.targets if t.derived}
        return tuple({**compared, **own}[name] for name in dict.fromkeys((*own, *compared)))

    def source_name(self, column: str) -> str:
        """The column of the source that a numeric or text column is read from."""
        return self.labels[column].source_column if column in self.labels else column

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Every column read as text: entity keys, categoricals, groups and segments, without repeats."""
        grouped = (name for group in self.groups for name in group)
        names = (*self.entity, *self.columns.categorical, *grouped, *self.segments)
        return tuple(dict.fromkeys(n for n in names if n not in self.numeric_columns))

    @property
    def time_columns(self) -> tuple[str, ...]:
        """The column of the time, where there is one."""
        return (self.time.column,) if self.time.dated else ()

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Every column that the source must have."""
        numbers = map(self.source_name, self.numeric_columns)
        return tuple(dict.fromkeys((*self.time_columns, *self.text_columns, *numbers)))
