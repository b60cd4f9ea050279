"""Consumes a profile's section `alerts`, produces how findings of monitoring become alerts, and who hears of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT

Days = Annotated[float, Field(ge=0, le=3650)]
Seconds = Annotated[float, Field(gt=0, le=600)]
LevelName = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


@dataclass(frozen=True, config=STRICT)
class CooldownConfig:
    """Days after a notification in which the same alert at the same level, or a lower one, notifies nobody.

    So long, too, after its recovery an alert that comes back is the same one. A run may come early by a 24th of it: one
    that a scheduler starts each day is not late by a day for starting some minutes sooner.
    """

    low: Days = 14.0
    medium: Days = 7.0
    high: Days = 3.0
    critical: Days = 1.0


@dataclass(frozen=True, config=STRICT)
class LogConfig:
    """Alerts as lines of Python's logger `assay.alerts`. min_level: the lowest level that gets one."""

    min_level: LevelName = "LOW"


@dataclass(frozen=True, config=STRICT)
class WebhookConfig:
    """Alerts as HTTP POST of JSON.

    min_level: the lowest level that is sent.
    url_variable: environment variable with the address, which is a secret; the one of this name and `_FILE` may name a
        file that holds it instead. key_variable: the same for the key that signs bodies; unset, none is signed.
    timeout_seconds: within which an answer must be there.
    attempts: of one message in one run; between them the run waits `backoff_seconds`, twice as long each time, give or
        take a half, or as long as the receiver says (Retry-After).
    budget_seconds: how long all sending for one target may hold up a run. What is not delivered by then waits.
    digest_from: so many notifications that wait are sent as one message. digest_most: no more than these in one.
    dead_days: once a notification has waited so long, that is a finding itself (rule `webhook`).
    give_up_days: after which it is no longer sent; the table `alerts` has it all the same.
    """

    min_level: LevelName = "MEDIUM"
    url_variable: Variable = "ASSAY_WEBHOOK_URL"
    key_variable: Variable = "ASSAY_WEBHOOK_KEY"
    timeout_seconds: Seconds = 5.0
    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    backoff_seconds: Annotated[float, Field(ge=0, le=60)] = 1.0
    budget_seconds: Seconds = 20.0
    digest_from: Annotated[int, Field(ge=2)] = 5
    digest_most: Annotated[int, Field(ge=2, le=1000)] = 100
    dead_days: Annotated[float, Field(gt=0, le=3650)] = 2.0
    give_up_days: Annotated[float, Field(gt=0, le=3650)] = 30.0


@dataclass(frozen=True, config=STRICT)
class AlertsConfig:
    """Alerts of monitoring. The table `alerts` has all of them, whatever is said here.

    sinks: who else is told.
    recovery_runs: an alert has recovered when so many runs in a row looked for it in vain.
    raise_after_days: an alert that stays rises by a level each time so many days have passed; None lets it stay.
    """

    sinks: tuple[Literal["log", "webhook"], ...] = ("log",)
    cooldown_days: CooldownConfig = CooldownConfig()
    recovery_runs: Annotated[int, Field(ge=1, le=1000)] = 2
    raise_after_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    log: LogConfig = LogConfig()
    webhook: WebhookConfig = WebhookConfig()
