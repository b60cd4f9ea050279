"""Consumes a master and a Spark settings file, produces the Spark session: ours on a laptop, or the one that is there.

Python starts the JVM itself through `spark-submit pyspark-shell`, so settings files and `--master` have their usual
precedence, and whatever the JVM prints goes to a log file instead of the terminal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from assay.config import RunConfig, conf_root
from assay.errors import PreflightError
from assay.runtime import jars

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

ENVIRONMENT = "environment"  # what executors call the folder of the unpacked environment
PACKED_PYTHON = f"./{ENVIRONMENT}/bin/python"

_IMPORTING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class SparkSettings:
    """How to reach Spark.

    master: overrides the settings file's; None leaves it.
    conf_file: a Spark properties file; None takes `conf/spark/local.conf`, or `standalone.conf` for spark:// masters.
    environment: the packed environment that executors of a cluster get; None takes what `ASSAY_ENVIRONMENT` names.
    """

    master: str | None = None
    conf_file: Path | None = None
    environment: Path | None = None

    def for_run(self, config: RunConfig) -> SparkSettings:
        """The same, with what a run's configuration says of Spark."""
        told = config.profile.runtime.environment
        return dataclasses.replace(self, environment=Path(told)) if told and self.environment is None else self

    def properties_file(self) -> Path:
        """The settings file that applies.

        Raises:
            PreflightError: the file does not exist.
        """
        if self.conf_file is not None:
            if not self.conf_file.is_file():
                raise PreflightError(f"--conf-file {self.conf_file}: there is no such file")
            return self.conf_file
        scheme = (self.master or "local").split(":")[0].split("[")[0]
        name = {"spark": "standalone", "yarn": "yarn", "k8s": "kubernetes"}.get(scheme, "local")
        return conf_root() / "spark" / f"{name}.conf"

    def chosen_master(self) -> str:
        """The master that Spark will take from here: of `--master`, else of the settings file."""
        return self.master or self.named("spark.master") or "local[*]"

    def deploy_mode(self) -> str:
        """`cluster` where the settings file has the driver run there, too; else `client`."""
        return self.named("spark.submit.deployMode") or "client"

    def named(self, key: str) -> str:
        """Value of a key in the settings file; empty where it has none."""
        line = rf"^[ \t]*{re.escape(key)}(?:[ \t]*[=:][ \t]*|[ \t]+)(\S+)"
        found = re.findall(line, self.properties_file().read_text("utf-8"), re.MULTILINE)
        return found[-1] if found else ""

    def archive(self) -> Path | None:
        """The packed environment for executors; None where there is none, or where they are this machine's Python.

        Raises:
            PreflightError: the file does not exist.
        """
        told = self.environment or Path(os.environ.get("ASSAY_ENVIRONMENT", ""))
        if told == Path() or is_local(self.chosen_master()):
            return None
        if not told.is_file():
            raise PreflightError(
                f"runtime.environment {told}: there is no such file; make it with `./spark-submit.sh pack`, or leave "
                "the setting (or the variable ASSAY_ENVIRONMENT) empty where executors have assay's libraries"
            )
        return told.absolute()


def session_is_given() -> bool:
    """Whether somebody else started Spark for this process: `spark-submit`, Databricks, or a notebook."""
    if "PYSPARK_GATEWAY_PORT" in os.environ or "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return True
    if "pyspark" not in sys.modules:
        return False
    import_spark()
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession() is not None


def import_spark() -> None:
    """Import PySpark, whole before this returns; MLflow imports it too, in the thread that opens its store.

    `pyspark` and `pyspark.sql` import one another: of two threads that begin at different ends, one gets half of it.
    """
    with _IMPORTING:
        import pyspark.sql  # noqa: F401


def open_session(settings: SparkSettings, *, app: str, log_file: Path) -> SparkSession:
    """Start Spark, or take the session that is there.

    Raises:
        PreflightError: Java is missing, the JVM did not start, or the session that is there has another master.
    """
    import_spark()
    from pyspark.sql import SparkSession

    given, databricks = session_is_given(), "DATABRICKS_RUNTIME_VERSION" in os.environ
    builder = SparkSession.builder if databricks else SparkSession.builder.appName(app)
    if given and SparkSession.getActiveSession() is not None:
        return SparkSession.getActiveSession()
    if not given:
        _refuse_cluster_mode(settings)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        os.environ["PYSPARK_SUBMIT_ARGS"] = submit_arguments(settings, log_file)
        _choose_python(settings)
        for key, value in DELTA.items():
            builder = builder.config(key, value)
    if not databricks:  # there nobody has to have the right to set anything
        builder = builder.config("spark.sql.session.timeZone", "UTC")
    try:
        with _terminal_spared(None if given else log_file):
            session = builder.getOrCreate()
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        first = first.rstrip(".")
        raise PreflightError(
            f"Spark did not start: {first}. Its log: {log_file}. Spark needs Java 17 or 21 (JAVA_HOME or `java`)"
        ) from error
    if not given:
        session.sparkContext.setLogLevel("WARN")
    elif settings.master and settings.master != session.sparkContext.master:
        raise PreflightError(
            f"--master {settings.master}: Spark runs already, with the master {session.sparkContext.master}; "
            "under spark-submit write --master before the script"
        )
    if not databricks:  # there, wheels are libraries of the cluster
        _ship_package(session)
    return session


def _refuse_cluster_mode(settings: SparkSettings) -> None:
    if settings.deploy_mode() == "cluster":
        raise PreflightError(
            f"{settings.properties_file()}: spark.submit.deployMode is cluster, where Spark starts the driver itself: "
            "add --dry-run (of deploy: --print-command) and run the line that it prints, or set it to client"
        )


def _choose_python(settings: SparkSettings) -> None:
    os.environ["PYSPARK_PYTHON"] = executors_python(settings)


def executors_python(settings: SparkSettings) -> str:
    """Python of executors: this very one on a laptop; on a cluster that of the packed environment.

    Without one, the Python that PYSPARK_PYTHON names, else the path of this one.
    """
    if is_local(settings.chosen_master()):
        return sys.executable
    return PACKED_PYTHON if settings.archive() else os.environ.get("PYSPARK_PYTHON", sys.executable)


def submit_arguments(settings: SparkSettings, log_file: Path) -> str:
    """The command line of `spark-submit` below `pyspark`, for this process."""
    arguments = [*options(settings), *driver_options(log_file), "pyspark-shell"]
    return " ".join(shlex.quote(a) for a in arguments)


def driver_options(log_file: Path) -> list[str]:
    """Options of `spark-submit` for a driver on this machine: where Spark's messages go."""
    told = f"-Dassay.log={_java_quoted(log_file)}"
    logging = conf_root() / "spark" / "log4j2.properties"
    if logging.is_file():
        told += f" -Dlog4j2.configurationFile={logging.resolve().as_uri()}"
    return ["--driver-java-options", told]


def options(settings: SparkSettings) -> list[str]:
    """Options of `spark-submit` for any driver: settings, master, Delta's jars, the packed environment."""
    found = ["--properties-file", str(settings.properties_file())]
    if settings.master:
        found += ["--master", settings.master]
    present = jars.jar_paths()
    if present:
        found += ["--jars", ",".join(Path(p).as_uri() for p in present)]
    else:
        ivy = conf_root() / "spark" / "ivysettings.xml"
        own = settings.named("spark.jars.packages")  # which the option would hide
        found += ["--packages", ",".join(filter(None, [jars.COORDINATE, own]))]
        if ivy.is_file():
            found += ["--conf", f"spark.jars.ivySettings={ivy}"]
    if archive := settings.archive():
        others = [one for one in (settings.named("spark.archives"),) if one]  # the option takes the place of the key
        found += ["--archives", ",".join([*others, f"{archive}#{ENVIRONMENT}"])]
    return found


def _java_quoted(path: Path) -> str:
    text = str(path)
    return f'"{text}"' if " " in text else text


@contextlib.contextmanager
def _terminal_spared(log_file: Path | None) -> Iterator[None]:
    """Send what the JVM inherits as standard output and error to the log file while it is being started."""
    if log_file is None:
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        saved = {number: os.dup(number) for number in (1, 2)}  # Ivy reports on standard output
    except OSError:
        yield
        return
    with log_file.open("ab") as sink:
        for number in saved:
            os.dup2(sink.fileno(), number)
    try:
        yield
    finally:
        for number, original in saved.items():
            os.dup2(original, number)
            os.close(original)


def is_local(master: str) -> bool:
    """Whether executors are threads of the driver's own machine and Python."""
    return master.startswith("local")


def ship_extensions(session: SparkSession) -> None:
    """Give executors the modules of extensions that no installed package has; those of a laptop, too."""
    from assay import extensions
    from assay.runtime.shipping import module_zip

    for module in dict.fromkeys(reference.module for reference in extensions.carried()):
        if (archive := module_zip(module)) is not None:
            session.sparkContext.addPyFile(str(archive))


def _ship_package(session: SparkSession) -> None:
    """Give executors of a cluster this very package, as a zip; local ones import what the driver imports."""
    from assay.runtime.shipping import package_zip

    if not is_local(session.sparkContext.master) and (archive := package_zip()) is not None:
        session.sparkContext.addPyFile(str(archive))
