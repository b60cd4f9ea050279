"""Consumes the wheel's list of needs, produces the installed libraries that meet it, and their files."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from assay.errors import UserError


def needed(root: Distribution, extras: Sequence[str], without: Iterable[str] = ()) -> list[Distribution]:
    """What a distribution needs to run, in order of names, itself not among it.

    extras: of the root.  without: libraries to leave out, with those that only they need.

    Raises:
        UserError: something needed is not installed here, or there is no such extra or library.
    """
    unknown = [extra for extra in extras if extra not in (root.metadata.get_all("Provides-Extra") or ())]
    if unknown:
        raise UserError(f"--extra {unknown[0]}: assay has no such extra")
    left_out = {canonicalize_name(name) for name in without}
    found: dict[str, Distribution] = {}
    seen, skipped = set(), set()
    waiting = list(_requirements(root, extras))
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in left_out:
            skipped.add(name)
            continue
        wanted = (name, frozenset(requirement.extras))
        if wanted in seen:
            continue
        seen.add(wanted)
        found[name] = _installed(requirement.name)
        waiting += _requirements(found[name], sorted(requirement.extras))
    if left_out - skipped:
        raise UserError(f"--without {min(left_out - skipped)}: assay needs no library of that name")
    return [found[name] for name in sorted(found)]


def _installed(name: str) -> Distribution:
    try:
        return importlib.metadata.distribution(name)
    except PackageNotFoundError:
        raise UserError(
            f"the library {name} is not installed here: run `./spark-submit.sh pack`, which installs it; for the "
            "extra neural, with ASSAY_EXTRAS=neural"
        ) from None


def _requirements(distribution: Distribution, extras: Sequence[str]) -> Iterator[Requirement]:
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield requirement


def files_of(distribution: Distribution) -> Iterator[tuple[Path, Path]]:
    """(file, path below the environment) of a library, with its compiled code; without its commands."""
    prefix = Path(sys.prefix).resolve()
    done: set[Path] = set()
    for listed in distribution.files or ():
        source = Path(str(distribution.locate_file(listed)))
        place = Path(str(source.parent.resolve())) / source.name
        if not place.is_relative_to(prefix) or not place.is_file():
            continue
        for file in (place, _compiled(place)):
            path = file.relative_to(prefix)
            if path.parts[0] != "bin" and path not in done and file.is_file():
                done.add(path)
                yield file, path


def _compiled(file: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(file))) if file.suffix == ".py" else file


def commands_of(distribution: Distribution) -> Iterator[tuple[str, str]]:
    """(name, Python code) of each command that a library brings."""
    for entry in distribution.entry_points:
        if entry.group == "console_scripts":
            yield (
                entry.name,
                f"import sys\n\nfrom {entry.module} import {entry.attr.partition('.')[0]}\n\n"
                + (f"sys.exit({entry.attr}())\n"),
            )
