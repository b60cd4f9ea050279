"""Consumes a profile, produces the engine settings of each member of its ensemble, or the reason why one cannot be."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from assay import extensions
from assay.config.profile import ENGINES, MONOTONE, SAMPLED, EngineConfig, ProfileConfig
from assay.config.strict import check, nearest
from assay.errors import ConfigError

USUAL = ("xgboost", "catboost", "linear")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
LEAST = 2


def is_engine(name: str) -> bool:
    """Whether `engine.name` may be that: an engine of ours or of an extension."""
    return name in ENGINES or extensions.is_here("engine", name)


def samples(name: str) -> bool:
    """Whether an engine learns from a sample in one rank."""
    found = None if name in ENGINES else extensions.find("engine", name)
    return name in SAMPLED or (found is not None and hasattr(found.item, "learn"))


def members_of(profile: ProfileConfig, origin: str = "ensemble") -> dict[str, EngineConfig]:
    """Member -> its engine, in the order given.

    Raises:
        ConfigError: fewer than two members, an unknown key, or a setting that all members must share.
    """
    engine = profile.engine
    able = [name for name in USUAL if not engine.monotone or name in MONOTONE]
    given = profile.ensemble.members or {name: {} for name in dict.fromkeys([engine.name, *able])}
    if len(given) < LEAST:
        raise ConfigError(f"{origin}: ensemble.members has {len(given)} member; an ensemble has {LEAST} or more")
    found = {}
    for name, changes in given.items():
        path = f"ensemble.members.{name}"
        if not NAME.fullmatch(name):
            raise ConfigError(f"{origin}: {path}: expected a name of letters, digits, - and _, with a letter first")
        kind = changes.get("name", name if is_engine(name) else engine.name)
        base = dataclasses.asdict(engine)
        if kind != engine.name:
            base |= {"params": {}, "sample_rows": engine.sample_rows if samples(kind) else 0}
        found[name] = check(EngineConfig, {**base, "name": kind, **changes}, origin=origin, prefix=path)
        if not is_engine(kind):
            raise unknown(f"{path}.name", kind, "engine", ENGINES, origin)
        _check_shared(found[name], engine, path, origin)
    return found


def unknown(path: str, name: str, kind: extensions.Kind, own: Sequence[str], origin: str) -> ConfigError:
    """What is said of a name that neither assay nor an extension has."""
    known = [*own, *extensions.names(kind)]
    return ConfigError(
        f"{origin}: {path}={name}: there is no such {extensions.WORDS[kind]}{nearest(name, known)} "
        f"(there are {', '.join(known) or 'none'}; runtime.extensions names modules that add more)"
    )


def methods_of(profile: ProfileConfig) -> list[str]:
    """Those of `ensemble.methods` that the flags `training.use_stacking` and `training.use_voting` let through."""
    left_out = set() if profile.training.use_stacking else {"stacking"}
    left_out |= set() if profile.training.use_voting else {"average", "voting"}
    return [method for method in profile.ensemble.methods if method not in left_out]


def _check_shared(member: EngineConfig, engine: EngineConfig, path: str, origin: str) -> None:
    if member.monotone != engine.monotone:
        raise ConfigError(f"{origin}: {path}.monotone: a promise of the whole model; set engine.monotone")
    if member.monotone and member.name not in MONOTONE:
        raise ConfigError(
            f"{origin}: {path}: engine.monotone is set, and {member.name} cannot keep it; {' and '.join(MONOTONE)} can"
        )
    if member.quantiles != engine.quantiles:
        raise ConfigError(f"{origin}: {path}.quantiles: all members have the same; set engine.quantiles")
    if member.refit != engine.refit:
        raise ConfigError(f"{origin}: {path}.refit: members share their inputs; set engine.refit for all of them")
    if bool(member.early_stopping_rounds) != bool(engine.early_stopping_rounds):
        raise ConfigError(
            f"{origin}: {path}.early_stopping_rounds={member.early_stopping_rounds}: 0 for one member is 0 for all, "
            f"and engine.early_stopping_rounds is {engine.early_stopping_rounds}"
        )
    if member.sample_rows and not samples(member.name):
        raise ConfigError(f"{origin}: {path}.sample_rows: {member.name} learns from all rows")
