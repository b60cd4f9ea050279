"""Consumes messages, produces what came of sending each to an HTTP receiver: within a time that nothing can exceed.

The address is a secret, as whoever has it can post: it is in no error, log or table. What `requests` and urllib3 say of
a failure has it, so their words are never used.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
import functools
import itertools
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests

from assay.config.alerts import WebhookConfig

TRIED_AGAIN = {408, 425, 429}  # beside all of 500 and above
REFUSED = {400, 413, 422}  # the message, not the address, is what the receiver does not like
REDIRECTS = {307, 308}  # which keep method and body
HOPS = 3
LONGEST_PAUSE_SECONDS = 6 * 3600.0  # that a receiver is granted by Retry-After
THREAD = "assay-webhook"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a message. attempts: requests that were begun.  refused: another message may fare better.

    pause_seconds: how long the receiver wants to be left alone, where it said so and a run cannot wait for it.
    """

    delivered: bool
    attempts: int
    error: str | None = None
    refused: bool = False
    pause_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class _Answer:
    """What came of one request. again: whether it is worth another try at once.  wait: the receiver's Retry-After."""

    error: str | None
    again: bool = False
    refused: bool = False
    wait: float | None = None


class Webhook:
    """A receiver. address, key: secrets; without a key bodies are not signed. now, pause: the clock, and waiting."""

    def __init__(
        self,
        address: str,
        config: WebhookConfig,
        *,
        now: Callable[[], dt.datetime],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises ValueError for an address that is none, without telling it."""
        try:
            parts = urlsplit(address)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(f"what {config.url_variable} holds is no address of http or https")
        self._address, self._config, self._now, self._pause = address, config, now, pause
        self._deadline = time.monotonic() + config.budget_seconds

    def __repr__(self) -> str:
        return f"Webhook({self._config.url_variable})"

    @property
    def left_seconds(self) -> float:
        """What is left of the budget, which began when this was made."""
        return max(0.0, self._deadline - time.monotonic())

    def send(self, content: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send one message, several times if need be and the budget allows."""
        backoff = self._config.backoff_seconds
        for attempt in range(1, self._config.attempts + 1):
            limit = min(self._config.timeout_seconds, self.left_seconds)
            if limit <= 0:
                return Outcome(False, attempt - 1, "the time for sending was used up (alerts.webhook.budget_seconds)")
            answer = _within(limit, functools.partial(self._request, content, headers, limit)) or _late(limit)
            if answer.error is None:
                return Outcome(True, attempt)
            pause = answer.wait if answer.wait is not None else backoff * random.uniform(0.5, 1.5)  # noqa: S311
            if attempt == self._config.attempts or not answer.again or pause >= self.left_seconds:
                break
            self._pause(pause)
            backoff *= 2
        return Outcome(False, attempt, answer.error, answer.refused, answer.wait)

    def _request(self, content: bytes, headers: Mapping[str, str], seconds: float) -> _Answer:
        """One request, and those that it is led on to."""
        try:
            with requests.Session() as session:
                return self._answer(session, content, headers, seconds)
        except requests.exceptions.SSLError:
            return _Answer("the receiver's certificate is not trusted, or TLS failed")
        except requests.exceptions.Timeout:
            return _late(seconds)
        except requests.exceptions.ConnectionError as error:
            return _Answer(f"no connection, or it was dropped{_reason(error)}", again=True)
        except Exception as error:  # whatever it is, it must not end a run, and its words may have the address
            return _Answer(f"the request failed ({type(error).__name__})")

    def _answer(self, session: requests.Session, content: bytes, headers: Mapping[str, str], seconds: float) -> _Answer:
        address = self._address
        for _ in range(HOPS):
            response = session.post(
                address, data=content, headers=dict(headers), timeout=seconds, allow_redirects=False, stream=True
            )
            response.close()
            if response.status_code not in REDIRECTS:
                return self._judged(response)
            target = urljoin(address, response.headers.get("Location", ""))
            if not _stays(address, target):
                return _Answer(f"HTTP {response.status_code} to another place, which is not followed")
            address = target
        return _Answer(f"HTTP {response.status_code} more often than is followed")

    def _judged(self, response: requests.Response) -> _Answer:
        status = response.status_code
        if 200 <= status < 300:
            return _Answer(None)
        again = status in TRIED_AGAIN or status >= 500
        told = f"HTTP {status}"
        return _Answer(told, again, status in REFUSED, _retry_after(response, self._now()) if again else None)


def secret(variable: str) -> str | None:
    """What an environment variable holds, or else the file that the variable of this name and `_FILE` names; or None.

    Raises:
        ValueError: the file cannot be read; names the variable.
    """
    value, file = os.environ.get(variable, "").strip(), os.environ.get(f"{variable}_FILE", "").strip()
    if not value and file:
        try:
            value = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the file that {variable}_FILE names cannot be read ({type(error).__name__})") from None
    return value or None


def _within(seconds: float, request: Callable[[], _Answer]) -> _Answer | None:
    """The answer, or None where there is none in time.

    A receiver that sends a byte now and then is never too late for a timeout between two bytes, and a name server has
    no timeout at all: so the request has a thread of its own, which is left behind.
    """
    found: list[_Answer] = []
    thread = threading.Thread(target=lambda: found.append(request()), name=THREAD, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def _late(seconds: float) -> _Answer:
    return _Answer(f"no answer within {seconds:.3g} s", again=True)


def _stays(address: str, target: str) -> bool:
    """Whether a redirect leads to the same host, and not from https to http."""
    try:
        here, there = urlsplit(address), urlsplit(target)
        same = here.hostname == there.hostname
        return same and ((here.scheme, here.port) == (there.scheme, there.port) or there.scheme == "https")
    except ValueError:
        return False


def _retry_after(response: requests.Response, now: dt.datetime) -> float | None:
    """Seconds of the header Retry-After, which is a number or a date (RFC 9110); None without a usable one."""
    told = response.headers.get("Retry-After", "").strip()
    if told.isascii() and told.isdigit():
        return min(float(told[:9]), LONGEST_PAUSE_SECONDS)
    try:
        date = email.utils.parsedate_to_datetime(told)
    except (TypeError, ValueError):
        return None
    moment = date if date.tzinfo else date.replace(tzinfo=dt.timezone.utc)
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_PAUSE_SECONDS)


def _reason(error: BaseException) -> str:
    """What the system said of a failed connection, such as `: Connection refused`; nothing of what libraries said."""
    for one in itertools.islice(_causes(error), 8):
        if isinstance(one, socket.gaierror):
            return ": its name is not known"
        if isinstance(one, ConnectionError) and one.errno:
            return f": {os.strerror(one.errno)}"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it wraps, the way requests and urllib3 do."""
    while error is not None:
        yield error
        wrapped = (getattr(error, "reason", None), *error.args, error.__cause__)
        error = next((one for one in wrapped if isinstance(one, BaseException)), None)


def _no_addresses(record: logging.LogRecord) -> bool:
    """Drop what urllib3 says of requests that are made here: it has the address."""
    return record.threadName != THREAD


for _name in ("connection", "connectionpool", "poolmanager", "response", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_no_addresses)
