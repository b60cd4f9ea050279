"""Consumes options, produces a server of raw rows' prices, until SIGTERM or SIGINT ends it."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
import socket
import tempfile
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config import load_run
from assay.errors import AssayError, DataError, UserError
from assay.features.job import champion_plan
from assay.runtime.job import JobContext, choose_plane
from assay.runtime.lake import lake_folder
from assay.runtime.local_plane import LocalPlane
from assay.runtime.plane import Plane
from assay.runtime.preflight import MARK
from assay.runtime.program import program
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings
from assay.serving.pricer import load_pricer, versions
from assay.serving.request import Limits
from assay.serving.served import Loader, Served
from assay.version import __version__

if TYPE_CHECKING:
    from fastapi import FastAPI

JOB = "serve"
OPTIONS = "ASSAY_SERVE"  # environment variable with the options of a server's processes, as JSON
GRACE_SECONDS = 30
APP = "assay.serving.job:app_of_environment"


class ServingContext(JobContext):
    """A context that reads tables in this process: files by itself, those of another file system by a Spark in it."""

    @cached_property
    def plane(self) -> Plane:
        """The lake.

        Raises:
            UserError: tables are in a catalog, or in another lake than the workspace's.
        """
        runtime, lake = self.config.profile.runtime, lake_folder(self.config)
        if runtime.catalog:
            raise UserError("serve reads tables by their place: leave runtime.catalog empty")
        if lake is None:
            return choose_plane(self)
        if runtime.road == "spark":
            raise UserError("serve reads tables of this machine as files: leave runtime.road as it is")
        return LocalPlane(lake, rows_per_task=runtime.rows_per_task)


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """What a server is told. port: 0 takes a free one.  workers: processes.  conf_file: of Spark, if it reads."""

    dataset: str
    profile: str = "production"
    workspace: str | None = None
    overrides: Sequence[str] = ()
    date: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    refresh_minutes: float = 1.0
    limits: Limits = dataclasses.field(default_factory=Limits)
    conf_file: str | None = None

    def context(self) -> JobContext:
        """What the workspace is.

        Raises:
            DataError: there is no such workspace.
        """
        config = load_run(
            dataset=Path(self.dataset),
            profile=self.profile,
            workspace=Path(self.workspace) if self.workspace is not None else None,
            overrides=self.overrides,
            date=self.date,
        )
        if not (config.workspace / MARK).is_file():
            raise DataError(f"--workspace {config.workspace}: no job has run there: run `{program()} pipeline` first")
        settings = SparkSettings(conf_file=Path(self.conf_file) if self.conf_file is not None else None)
        return ServingContext(config, settings, Reporter(quiet=True))

    def served(self, **options: Any) -> Served:
        """What serves, not started yet."""
        context = self.context()
        loader = Loader(lambda: load_pricer(context, self.limits), lambda: versions(context))
        return Served(loader, refresh_minutes=self.refresh_minutes, **options)

    @classmethod
    def from_environment(cls) -> ServeOptions:
        """The options that `serve` left there for its processes."""
        told = json.loads(os.environ[OPTIONS])
        return cls(**{**told, "limits": Limits(**told["limits"])})


def app_of_environment() -> FastAPI:
    """The application of one of several processes."""
    from assay.runtime.logs import set_up_logging
    from assay.serving.app import app_of

    set_up_logging()
    options = ServeOptions.from_environment()
    return app_of(options.served(), options.limits)


def serve(options: ServeOptions) -> None:
    """Serve until a signal ends it: SIGTERM and SIGINT answer what is under way first; SIGHUP looks for something new.

    Raises:
        AssayError: nothing can be served.
    """
    import uvicorn

    from assay.serving.app import app_of

    common: dict[str, Any] = {"log_level": "warning", "timeout_graceful_shutdown": GRACE_SECONDS, "lifespan": "on"}
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more when all is done
    if options.workers > 1:
        champion_plan(options.context())  # refuse here what each process would fail at
        os.environ[OPTIONS] = json.dumps(dataclasses.asdict(options))
        listening = listening_socket(options)
        config = uvicorn.Config(APP, factory=True, workers=options.workers, **common)
        _say(options, listening)
        from uvicorn.supervisors import Multiprocess

        Multiprocess(config, sockets=[listening]).run()
        return
    servers: list[uvicorn.Server] = []

    def give_up() -> None:
        servers[0].should_exit = True

    served = options.served(on_failure=give_up)
    listening = listening_socket(options)
    server = uvicorn.Server(uvicorn.Config(app_of(served, options.limits), **common))
    servers.append(server)
    signal.signal(signal.SIGHUP, lambda *_: served.refresh())
    _say(options, listening)
    server.run(sockets=[listening])
    if served.pricer is None and served.error is not None:
        raise served.error if isinstance(served.error, AssayError) else AssayError(str(served.error)) from served.error


def save(options: ServeOptions, folder: Path) -> None:
    """Write what `serve` would serve as an MLflow model, which `mlflow models serve` takes.

    Raises:
        AssayError: nothing can be served, or the folder is there already.
    """
    import mlflow
    from mlflow.types.schema import ParamSchema, ParamSpec

    from assay.serving import packed

    if folder.exists():
        raise UserError(f"--save {folder}: it is there already; name a new folder")
    pricer = load_pricer(options.context(), options.limits)
    pricer.check()
    with tempfile.TemporaryDirectory(prefix="assay-save-") as scratch:
        digest = packed.save(pricer, Path(scratch) / "pricer")
        warnings.filterwarnings("ignore", "An input example was not provided")  # MLflow would take its types for a rule
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            artifacts={"pricer": str(Path(scratch) / "pricer")},
            model_config={"sha256": digest},
            signature=mlflow.models.ModelSignature(params=ParamSchema([ParamSpec("history", "string", "[]")])),
            pip_requirements=[f"assay=={__version__}"],
        )
    print(f"saved {folder}: mlflow models serve -m {shlex.quote(str(folder))} --env-manager local", flush=True)


def listening_socket(options: ServeOptions) -> socket.socket:
    """A bound socket.

    Raises:
        UserError: the address is taken, or not of this machine.
    """
    # asyncio sends at once only where a socket says that it is of TCP: else a body waits 40 ms for its head's receipt.
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((options.host, options.port))
    except OSError as error:
        found.close()
        raise UserError(
            f"--host {options.host} --port {options.port}: cannot listen there ({error.strerror or error}); choose "
            "another port, or 0 for a free one"
        ) from None
    found.set_inheritable(True)
    return found


def _say(options: ServeOptions, listening: socket.socket) -> None:
    host, port, *_ = listening.getsockname()
    where = f"[{host}]" if ":" in host else host
    print(f"serving {Path(options.dataset).stem} at http://{where}:{port} (POST /predict, GET /ready)", flush=True)
