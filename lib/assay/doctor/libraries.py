"""Consumes what assay's own metadata asks for, produces findings about Python, libraries, extras and Delta's jars."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from assay.doctor.findings import Finding, fail, ok, refused, warn
from assay.errors import PreflightError
from assay.runtime import jars, preflight

PACKAGE = "assay"
EXTRAS = {  # what a person may miss -> what for
    "demo": "`assay demo`",
    "neural": "engine.name=lstm and gru",
    "hyperopt": "tuning.sampler=hyperopt",
    "notebooks": "running notebooks",
}
SOME = 5  # libraries that a line names
Installed = Callable[[str], str | None]


def installed(name: str) -> str | None:
    """Version of an installed package; None where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def own_requirements() -> tuple[list[str], str]:
    """What assay's metadata requires, and which Pythons; empty where assay is no installed package."""
    try:
        told = importlib.metadata.metadata(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return [], ""
    return list(importlib.metadata.requires(PACKAGE) or []), str(told.json.get("requires_python", ""))


def python(wanted: str, version: str = platform.python_version(), program: str = sys.executable) -> Finding:
    """Whether assay is made for this Python. wanted: as its metadata says it."""
    if wanted and not SpecifierSet(wanted).contains(version, prereleases=True):
        return fail(
            "Python",
            f"{version} in {program}; assay needs {wanted}",
            "install Python 3.10, 3.11 or 3.12; ./spark-submit.sh finds it, or takes that of ASSAY_PYTHON",
        )
    return ok("Python", f"{version} in {program}")


def needed(requires: Sequence[str], extra: str = "") -> dict[str, SpecifierSet]:
    """Libraries -> versions, of those that an extra needs, else of those that all need."""
    found = {}
    for text in requires:
        try:
            one = Requirement(text)
        except InvalidRequirement:
            continue
        plain = one.marker is None or one.marker.evaluate({"extra": ""})
        wanted = one.marker is not None and one.marker.evaluate({"extra": extra}) and not plain if extra else plain
        if wanted:
            found[one.name] = one.specifier
    return found


def amiss(wanted: dict[str, SpecifierSet], version_of: Installed = installed) -> dict[str, str]:
    """Libraries that are missing or of another version -> what is wrong."""
    wrong = {}
    for name, versions in wanted.items():
        found = version_of(name)
        if found is None:
            wrong[name] = f"{name} is missing"
        elif not _fits(found, versions):
            wrong[name] = f"{name} is {found}, not {versions}"
    return wrong


def _fits(found: str, versions: SpecifierSet) -> bool:
    try:
        return versions.contains(Version(found), prereleases=True)
    except InvalidVersion:
        return False


def listed(lines: Sequence[str]) -> str:
    """The first few of them."""
    more = len(lines) - SOME
    return "; ".join(lines[:SOME]) + (f"; and {more} more" if more > 0 else "")


def pins(requires: Sequence[str], version_of: Installed = installed) -> Finding:
    """Whether installed libraries are of the versions that assay's metadata asks for."""
    if not requires:
        return warn(
            "libraries",
            "assay is not an installed package here, so nobody knows which versions it needs",
            "install it: `pip install .` in its folder, or let ./spark-submit.sh do so",
        )
    wanted = needed(requires)
    wrong = amiss(wanted, version_of)
    if wrong:
        return fail(
            "libraries",
            f"{len(wrong)} of {len(wanted)} do not fit: {listed(list(wrong.values()))}",
            "install what requirements.lock names: `pip install --require-hashes -r requirements.lock`",
        )
    return ok("libraries", f"{len(wanted)} of {len(wanted)} as assay's metadata asks for them")


def extras(requires: Sequence[str], version_of: Installed = installed) -> Finding:
    """Which extras are there; those that are not are no fault."""
    there, lacking = [], []
    for name, purpose in EXTRAS.items():
        wanted = needed(requires, name)
        if wanted and not amiss(wanted, version_of):
            there.append(name)
        elif wanted:
            lacking.append(f"{name}, for {purpose}")
    told = f"here: {', '.join(there) or 'none'}"
    if lacking:
        told += f". Not here: {'; '.join(lacking)} (`pip install '{PACKAGE}[NAME]'`)"
    return ok("extras", told)


def delta_jars(found: Sequence[str], named: str, spark_version: str) -> Finding:
    """Whether Delta's jars are at hand and of Spark's version.

    found: files of this environment. named: jars and packages that the settings file names; empty for none.
    """
    try:
        preflight.check_jar_names(named or jars.COORDINATE, spark_version)
    except PreflightError as error:
        return refused("Delta's jars", error, "take spark.jars and spark.jars.packages out of the settings file")
    if found:
        return ok("Delta's jars", f"{jars.COORDINATE} in {jars.environment_jars()}")
    return warn(
        "Delta's jars",
        f"not in {jars.environment_jars()}: each start of Spark looks for {jars.COORDINATE} in Maven's repository",
        f"fetch them once: `{sys.executable} -m assay.runtime.jars` (./spark-submit.sh does so before its first job)",
    )


def xgboost_has_cuda() -> bool:
    """Whether the installed XGBoost was built for GPUs."""
    import xgboost

    return bool(xgboost.build_info().get("USE_CUDA", False))
