"""Consumes the address where tables shall lie, produces its folder where it has one, or why none can lie there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from assay.errors import ConfigError

if TYPE_CHECKING:
    from assay.config.profile import RuntimeConfig

SETTING = "runtime.lake"
EXAMPLES = "hdfs://NAMENODE:8020/assay/mine, s3a://BUCKET/mine, or file:///FOLDER"


def check_lake(runtime: RuntimeConfig, origin: str) -> None:
    """Refuse an address that is none, that tells a secret, or that another setting contradicts.

    Raises:
        ConfigError: names the settings and what to change.
    """
    lake = runtime.lake
    if not lake:
        return
    try:
        parts = urlsplit(lake)
    except ValueError as error:
        raise ConfigError(f"{origin}: {SETTING} cannot be read ({error}); expected a URI: {EXAMPLES}") from None
    if parts.password is not None:
        raise ConfigError(
            f"{origin}: {SETTING} {parts.scheme}://***@... has a password in it: take it out; credentials belong to "
            "Spark (--conf-file FILE, or the environment)"
        )
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", lake):
        raise ConfigError(f"{origin}: {SETTING} {lake}: expected a URI: {EXAMPLES}")
    if parts.query or parts.fragment:
        raise ConfigError(f"{origin}: {SETTING} {parts.scheme}://...: a URI of tables has no ? and no #: take them out")
    if parts.scheme == "file" and (parts.netloc or not parts.path.strip("/")):
        raise ConfigError(f"{origin}: {SETTING} {lake}: of a folder expected file:///FOLDER, with three slashes")
    if parts.scheme != "file" and not parts.netloc and not parts.path.strip("/"):
        raise ConfigError(f"{origin}: {SETTING} {lake}: names no place; expected a URI: {EXAMPLES}")
    if runtime.catalog:
        raise ConfigError(
            f"{origin}: {SETTING} and runtime.catalog={runtime.catalog} both say where tables lie: leave one empty"
        )
    if runtime.road == "arrow" and parts.scheme != "file":
        raise ConfigError(
            f"{origin}: runtime.road=arrow reads and writes table files itself, which it cannot at {SETTING}={lake}: "
            "leave runtime.road out, and Spark does"
        )


def folder_of(uri: str) -> Path | None:
    """The folder of this machine that a URI names; None where it is of another file system."""
    return Path(url2pathname(urlsplit(uri).path)) if uri.startswith("file:") else None
