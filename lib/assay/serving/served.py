"""Consumes a workspace as it changes, produces the pricer of the moment: loaded at the start, and again when due."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import threading
from collections.abc import Callable
from typing import Any

from assay.errors import AssayError
from assay.runtime.logs import redact
from assay.serving.desk import Desk
from assay.serving.pricer import Priced, Pricer
from assay.serving.request import BadRequest, Records
from assay.version import __version__

LOG = logging.getLogger("assay.serving")


@dataclasses.dataclass(frozen=True)
class Loader:
    """How a pricer comes about.  load: makes one.  versions: `Pricer.versions` of what it would be."""

    load: Callable[[], Pricer]
    versions: Callable[[], Any]


class Served:
    """The pricer of the moment, shared by the threads of a server.

    A new one takes the place of the old one at once and whole. Where it cannot be loaded, the old one serves on.
    """

    def __init__(
        self, loader: Loader, *, refresh_minutes: float = 0.0, on_failure: Callable[[], None] | None = None
    ) -> None:
        """refresh_minutes: how often to look for something new, 0 for never.  on_failure: what to do without any."""
        self._loader, self._seconds, self._on_failure = loader, refresh_minutes * 60, on_failure
        self._desk = Desk()
        self._due, self._stopped = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.pricer: Pricer | None = None
        self.loaded: dt.datetime | None = None
        self.error: Exception | None = None

    def start(self) -> None:
        """Load in a thread of its own, which then looks for something new from time to time."""
        self._thread = threading.Thread(target=self._run, name="assay-serving-refresh", daemon=True)
        self._thread.start()

    def refresh(self) -> None:
        """Look for something new now. May be called from a signal's handler."""
        self._due.set()

    def stop(self) -> None:
        """End the threads; requests that wait get their answers before."""
        self._stopped.set()
        self._due.set()
        self._desk.close()

    def load(self) -> None:
        """Load what is there now, unless it is what is served already.

        Raises:
            AssayError: it cannot be loaded, or prices nothing.
        """
        if self.pricer is not None and self._loader.versions() == self.pricer.versions:
            return
        pricer = self._loader.load()
        pricer.check()
        self.pricer, self.loaded, self.error = pricer, dt.datetime.now(dt.timezone.utc), None

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.load()
            except Exception as error:
                self.error = error
                known = isinstance(error, AssayError)
                LOG.error("cannot load the workspace: %s", redact(str(error)), exc_info=None if known else error)
                if self.pricer is None and self._on_failure is not None:
                    self._on_failure()
                    return
            self._due.wait(self._seconds or None)
            self._due.clear()

    def price(self, rows: Records, history: Records) -> Priced:
        """The answers of one request.

        Raises:
            BadRequest: of status 503 while nothing is loaded, else see `Reader`.
        """
        pricer = self.pricer
        if pricer is None:
            raise BadRequest("the model is being loaded", 503)
        return self._desk.price(pricer, pricer.reader.raw(rows, history))

    def about(self) -> dict[str, Any]:
        """What is served, since when, and what kept something newer from being loaded."""
        told: dict[str, Any] = {"assay": __version__, "ready": self.pricer is not None}
        if self.pricer is not None and self.loaded is not None:
            told |= {**self.pricer.about, "loaded": self.loaded.isoformat(timespec="seconds")}
        if self.error is not None:
            told["refresh_failed"] = type(self.error).__name__
        return told
