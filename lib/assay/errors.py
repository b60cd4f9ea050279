"""Consumes what went wrong, produces the exit code: 1 our failure, 2 the user's mistake, 3 a gate that refused."""

from __future__ import annotations

import re

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
EXIT_REFUSED = 3


class AssayError(Exception):
    """Base of every error that assay raises on purpose. `exit_code` is what the process returns."""

    exit_code = EXIT_FAILURE


class UserError(AssayError):
    """A mistake in the data, the configuration or the command. Printed as one line; exit code 2.

    The message names the file, column, row count, rule and the setting to change, as far as they apply.
    """

    exit_code = EXIT_USER_ERROR


class ConfigError(UserError):
    """An unknown key, a wrong type or a contradiction in the configuration."""


class DataError(UserError):
    """Data that cannot be used as it is described: a missing file or column, no usable row."""


class PreflightError(UserError):
    """A set-up that would hang or fail late: refused before the first task starts."""


class GateRefused(AssayError):
    """A quality gate said no. The evidence is on record in MLflow; exit code 3."""

    exit_code = EXIT_REFUSED


class TaskFailed(AssayError):
    """A command that ended with another exit code than 0, for schedulers that take any end by `sys.exit` for a failure
    and show what was raised."""


class NeighbourLost(AssayError):
    """A rank of a training cannot go on because another one is gone, which knows why."""


class Overtaken(AssayError):
    """Somebody else wrote the same part of a table since it was read: read it again, and decide anew."""


def from_worker(error: BaseException) -> AssayError | None:
    """The error of ours that a task raised: it comes to the driver as text, in the middle of Spark's own."""
    found = re.search(r"\bassay\.errors\.(\w+): ([^\n]+)", str(error))
    kind = globals().get(found[1]) if found else None
    if found is None or not (isinstance(kind, type) and issubclass(kind, AssayError)):
        return None
    return kind(found[2].strip())
