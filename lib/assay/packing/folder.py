"""Consumes a checkout, its environment and Delta's jars, produces a folder that runs assay without them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

from packaging.utils import canonicalize_name

from assay.config import conf_root
from assay.errors import AssayError, UserError
from assay.packing import archive
from assay.packing.libraries import files_of, needed
from assay.runtime import jars
from assay.runtime.shipping import package_zip
from assay.version import __version__

ENVIRONMENT, RECORD, LAUNCHER = "environment.tar.gz", "packed.json", "run.sh"


@dataclass(frozen=True)
class Packed:
    """What was packed: the folder, libraries and their versions, and bytes of each part."""

    folder: Path
    libraries: dict[str, str]
    sizes: dict[str, int]


def pack(
    out: Path,
    *,
    extras: Sequence[str] = (),
    without: Sequence[str] = (),
    level: int = 4,
    say: Callable[[str], None] = lambda _: None,
) -> Packed:
    """Write the folder anew.

    extras, without: see `libraries.needed`.  level: of compression, 0 to 9.  say: gets a line per step.

    Raises:
        UserError: `out` holds something else; this is no checkout; Delta's jars or a library are not there.
        AssayError: the wheel could not be built.
    """
    out = out.absolute()
    if out.exists() and not ((out / RECORD).is_file() or (out.is_dir() and not any(out.iterdir()))):
        raise UserError(f"--out {out}: holds something else; name a new folder, or one that `pack` has written")
    checkout = conf_root().parent
    if not (checkout / "pyproject.toml").is_file():
        raise UserError(f"{checkout} is no checkout of assay, which packing needs to build the wheel")
    if not jars.jar_paths():
        raise UserError("Delta's jars are not there: run `./spark-submit.sh pack`, which fetches them")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot write there ({error.strerror})") from None
    try:
        libraries = _filled(part, checkout, extras, without, level, say)
        shutil.rmtree(out, ignore_errors=True)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Packed(out, libraries, {path.name: _size(path) for path in sorted(out.iterdir())})


def _filled(
    folder: Path,
    checkout: Path,
    extras: Sequence[str],
    without: Sequence[str],
    level: int,
    say: Callable[[str], None],
) -> dict[str, str]:
    say("building the wheel")
    wheel, code = _wheel(checkout, folder), package_zip(folder)
    if code is None:
        raise UserError("assay itself comes out of a zip here; pack from a checkout")
    staged = folder / "staged"
    assay = archive.stage(staged, wheel)
    found = needed(assay, extras, without)
    say(f"packing {len(found)} libraries into {ENVIRONMENT}")
    archive.install(staged, [assay, *found])
    archive.archived(staged, folder / ENVIRONMENT, level)
    shutil.rmtree(staged)
    say("adding Spark, Delta's jars and the settings")
    for distribution in found:
        if distribution.name == archive.SPARK:
            _link_spark(distribution, folder / "spark")
    shutil.copytree(jars.environment_jars(), folder / "jars", ignore=shutil.ignore_patterns(".*"))
    shutil.copytree(checkout / "conf", folder / "conf")
    shutil.copytree(checkout / "jobs", folder / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    libraries = {"assay": __version__, **{str(canonicalize_name(one.name)): one.version for one in found}}
    _sign(folder, code.name, libraries)
    return libraries


def _link_spark(distribution: Distribution, folder: Path) -> None:
    """Spark for the driver: the package pyspark with its jars."""
    site = Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    for file, path in files_of(distribution):
        if path.is_relative_to(site / archive.SPARK):
            archive.link(file, folder / path.relative_to(site))


def _sign(folder: Path, code: str, libraries: dict[str, str]) -> None:
    """Write the record of what was packed, by which the launcher knows an older unpacked archive, and the launcher."""
    digest = hashlib.sha256()
    with (folder / ENVIRONMENT).open("rb") as content:
        for block in iter(lambda: content.read(1 << 20), b""):
            digest.update(block)
    about = {"assay": __version__, "python": archive.PYTHON, "platform": sysconfig.get_platform()}
    about[ENVIRONMENT] = digest.hexdigest()
    (folder / RECORD).write_text(json.dumps({**about, "libraries": libraries}, indent=2) + "\n", encoding="utf-8")
    launcher = (Path(__file__).parent / LAUNCHER).read_text(encoding="utf-8")
    for name, value in {"VERSION": archive.PYTHON, "PLATFORM": about["platform"], "CODE": code}.items():
        launcher = launcher.replace(f"@{name}@", value)
    (folder / LAUNCHER).write_text(launcher, encoding="utf-8")
    (folder / LAUNCHER).chmod(0o755)


def _wheel(checkout: Path, folder: Path) -> Path:
    """Build assay's wheel with the hatchling that is here: nothing is fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not found:
        last = (done.stderr.strip() or done.stdout.strip() or "no wheel").splitlines()[-1]
        raise AssayError(f"hatchling did not build the wheel of {checkout}: {last}")
    return found[0]


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
