"""Consumes what went wrong, produces what the command line says of it: one line, details in a file, an exit code."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from assay.errors import EXIT_REFUSED, AssayError, from_worker
from assay.runtime.logs import redact


def unexpected(error: BaseException, workspace: Path | None) -> AssayError:
    """A failure of ours: one line for the terminal, everything else in a file."""
    lines = str(error).strip().splitlines() or [""]
    inner = [text for text in lines if text.startswith(("ValueError", "AssertionError"))]
    first = redact(inner[-1] if inner else lines[0])[:300]
    folder = workspace / "logs" if workspace is not None and workspace.is_dir() else Path(tempfile.gettempdir())
    log = folder / ("error.log" if folder.name == "logs" else "assay-error.log")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log.write_text(redact("".join(traceback.format_exception(error))), encoding="utf-8")
    except OSError as trouble:  # a full disk may be what went wrong in the first place
        return AssayError(f"{type(error).__name__}: {first} (no details: {log}: {trouble.strerror})")
    return AssayError(f"{type(error).__name__}: {first} (this is assay's failure; details: {log})")


def fail(name: str, error: AssayError, as_json: bool) -> NoReturn:
    """One line on standard error, and the exit code of the error."""
    message = " ".join(redact(str(error)).split())
    print(f"assay {name}".strip() + f": {message}", file=sys.stderr, flush=True)
    if as_json:
        status = "refused" if error.exit_code == EXIT_REFUSED else "failed"
        print(json.dumps({"job": name, "status": status, "error": message}), flush=True)
    ended = SystemExit(error.exit_code)
    ended.__notes__ = [message]  # for who calls the command line in this process; `add_note` came with Python 3.11
    raise ended


@contextlib.contextmanager
def failures_told(name: str, as_json: bool, workspace: Callable[[], Path | None]) -> Iterator[None]:
    """What fails inside ends the process with one line and an exit code. workspace: where details go, when known."""
    try:
        yield
    except AssayError as error:
        fail(name, error, as_json)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        fail(name, from_worker(error) or unexpected(error, workspace()), as_json)
