"""Consumes the pinned Delta version, produces its jars inside the environment: fetched once, verified, found at start.

Without them every session start would resolve `spark.jars.packages` with Ivy: seconds of waiting and pages of output.
`python -m assay.runtime.jars` fetches; `spark-submit.sh` calls it while it sets up.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from assay.errors import AssayError
from assay.runtime.java import java_program

DELTA = "4.4.0"
# Delta builds its jar anew for each minor version of Spark. To raise a version: change these and pyproject.toml's
# lines; the error shows the new hashes.
BUILT_FOR = {
    "4.0": "49e899667168b9412f83cbe894ce264107d7b896d6c5e12edca4e216845c1104",
    "4.1": "75a9400986853c061f5109f012547de2545a5759e5e752e5ef633dabe16a4f10",
}


def _spark_line() -> str:
    """The minor version of the installed Spark; of one without a jar of its own, the newest that has one."""
    try:
        line = ".".join(importlib.metadata.version("pyspark").split(".")[:2])
    except importlib.metadata.PackageNotFoundError:  # as where a platform brings Spark itself
        line = ""
    return line if line in BUILT_FOR else max(BUILT_FOR)


# All that reading, writing, MERGE, OPTIMIZE, VACUUM, deletion vectors and streaming need beyond pyspark's own jars. The
# other dependencies that Ivy would bring are older copies of what pyspark ships, or serve Unity Catalog's own tables
# only: there, name the packages in a settings file.
PINNED = {
    ("io.delta", f"delta-spark_{_spark_line()}_2.13", DELTA): BUILT_FOR[_spark_line()],
    ("io.delta", "delta-storage", DELTA): "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc",
}
COORDINATE = ":".join(next(iter(PINNED)))
MANIFEST = "manifest.json"
PAUSES_SECONDS = (2, 8)  # between the tries: a dropped connection is over by then, a missing network is not


def jar_paths() -> list[str]:
    """Delta's jars in this environment; empty when absent, altered, or fetched for other versions. Never raises."""
    return _verified(environment_jars())


def environment_jars() -> Path:
    """The folder of the environment's jars; ASSAY_JARS names that of a packed assay."""
    return Path(os.environ.get("ASSAY_JARS") or Path(sys.prefix) / "jars")


def resolve(target: Path) -> list[str]:
    """Fetch the pinned jars into `target`, unless they are there; the manifest is written last.

    Raises:
        AssayError: after three tries, or at once when a file is not the pinned one.
    """
    present = _verified(target)
    if present:
        return present
    target.mkdir(parents=True, exist_ok=True)
    for leftover in target.glob(".fetch-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target) as scratch:
        fetched = _fetch_with_retries(Path(scratch))
        hashes = {file.name: _checked(file, pin) for file, pin in fetched.items()}
        (target / MANIFEST).unlink(missing_ok=True)
        for old in target.glob("*.jar"):
            old.unlink()
        for file in fetched:
            file.replace(target / file.name)
        draft = Path(scratch) / MANIFEST
        draft.write_text(json.dumps({**_versions(), "sha256": hashes}, indent=2) + "\n", encoding="utf-8")
        draft.replace(target / MANIFEST)
    return _verified(target)


def _verified(folder: Path) -> list[str]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if {key: manifest[key] for key in ("pyspark", "delta-spark")} != _versions():
            return []
        hashes: dict[str, str] = manifest["sha256"]
        if set(hashes) != {_file_name(module) for module in PINNED}:
            return []
        if any(_sha256(folder / name) != digest for name, digest in hashes.items()):
            return []
        return [str(folder / name) for name in sorted(hashes)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, importlib.metadata.PackageNotFoundError):
        return []


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("pyspark", "delta-spark")}


def _file_name(module: tuple[str, str, str]) -> str:
    _, name, version = module
    return f"{name}-{version}.jar"


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _checked(file: Path, pin: str) -> str:
    found = _sha256(file)
    if found != pin:
        raise AssayError(f"{file.name} is not the expected file: SHA-256 {found}, pinned {pin} (assay.runtime.jars)")
    return found


def _fetch_with_retries(scratch: Path) -> dict[Path, str]:
    for pause in (*PAUSES_SECONDS, None):
        reason = _fetch(scratch)
        if reason is None:
            break
        if pause is None:
            raise AssayError(
                f"could not fetch {COORDINATE} and what it needs: {reason}. Check the network, then run this again. "
                "Behind a proxy set https_proxy; for a mirror, ASSAY_IVY_SETTINGS names an Ivy settings file"
            )
        print(f"assay: Delta's jars did not arrive ({reason}); trying again in {pause} s", file=sys.stderr, flush=True)
        time.sleep(pause)
    return {scratch / _file_name(module): pin for module, pin in PINNED.items()}


def _fetch(scratch: Path) -> str | None:
    """One try, with the Ivy that pyspark ships; None when every jar is there, else why not. Its talk goes to stdout."""
    wanted = scratch / "ivy.xml"
    wanted.write_text(_ivy_file(), encoding="utf-8")
    command = [*ivy_command(scratch / "cache"), "-ivy", str(wanted)]
    command += ["-retrieve", f"{scratch}/[artifact]-[revision].[ext]"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise AssayError(f"could not run {command[0]}: {error.strerror}; set JAVA_HOME to a Java 17 or 21") from None
    print(done.stdout, done.stderr, sep="\n", flush=True)
    missing = [_file_name(module) for module in PINNED if not (scratch / _file_name(module)).is_file()]
    if not missing:
        return None
    # Ivy reports a missing network as "not found" and hides the cause in the middle of its report.
    cause = re.search(r"\(([\w.]+Exception[^()]*)\)", done.stdout + done.stderr)
    return cause.group(1).strip() if cause else f"not found: {', '.join(missing)}"


def ivy_command(cache: Path) -> list[str]:
    """The start of a command line of the Ivy that pyspark ships. cache: what was fetched before is there."""
    command = [java_program(), *_proxy_options(), "-cp", str(_ivy_jar()), "org.apache.ivy.Main"]
    return [*command, "-settings", str(_ivy_settings()), "-cache", str(cache)]


def _ivy_file() -> str:
    lines = [
        f'    <dependency org="{org}" name="{name}" rev="{version}" transitive="false" conf="default-&gt;master"/>'
        for org, name, version in PINNED
    ]
    body = "\n".join(lines)
    return (
        '<ivy-module version="2.0">\n  <info organisation="assay" module="jars"/>\n'
        '  <configurations><conf name="default"/></configurations>\n'
        f"  <dependencies>\n{body}\n  </dependencies>\n</ivy-module>\n"
    )


def _ivy_settings() -> Path:
    from assay.config import conf_root

    own = os.environ.get("ASSAY_IVY_SETTINGS")
    return Path(own) if own else conf_root() / "spark" / "ivysettings.xml"


def _ivy_jar() -> Path:
    found = importlib.util.find_spec("pyspark")
    folder = Path(found.origin).parent / "jars" if found and found.origin else Path()
    try:
        return next(folder.glob("ivy-*.jar"))
    except StopIteration:
        raise AssayError("pyspark ships no Ivy here: install pyspark from its lock file") from None


def _proxy_options() -> list[str]:
    """Java does not read `https_proxy` itself."""
    proxy = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY") or ""
    parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    if not parts.hostname:
        return []
    return [f"-Dhttps.proxyHost={parts.hostname}", f"-Dhttps.proxyPort={parts.port or 443}"]


def main() -> int:
    """Fetch the jars into this environment; the exit code follows the error."""
    try:
        resolve(environment_jars())
    except AssayError as error:
        print(f"assay: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
