"""Consumes names of libraries and a file, produces what a task sees of them where it runs. Runs on executors.

With the standard library alone: an executor whose Python lacks what assay needs still answers.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import socket
from collections.abc import Sequence
from pathlib import Path

ANSWER = "seen-by-"


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one task saw.

    executor: host and folder, which tell executors apart. versions: of libraries, None of those that are missing.
    shared: whether the driver's file is there, and one could be written beside it. gpus: addresses of this task's.
    """

    executor: tuple[str, str]
    python: str
    program: str
    versions: dict[str, str | None]
    shared: bool
    gpus: tuple[str, ...] = ()


def look(names: Sequence[str], folder: str, token: str, gpus: tuple[str, ...], program: str) -> Seen:
    """What is here. folder: of the driver, with a file that is called like the token."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    executor = (socket.gethostname(), os.getcwd())
    return Seen(executor, platform.python_version(), program, versions, _shared(Path(folder), token), gpus)


def _shared(folder: Path, token: str) -> bool:
    try:
        if (folder / token).read_text("utf-8") != token:
            return False
        (folder / f"{ANSWER}{socket.gethostname()}-{os.getpid()}").write_text(token, encoding="utf-8")
    except OSError:
        return False
    return True
