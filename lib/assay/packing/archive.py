"""Consumes installed libraries and the wheel of assay, produces `environment.tar.gz`, which is right wherever it lands.

An environment is staged with links to the files that are there, and venv-pack makes the archive of it. Its `bin/python`
is a script that runs the machine's own Python of the same version on these libraries: no archive can bring an
interpreter that runs wherever it lies, and executors may have theirs elsewhere than this machine has.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

from assay.errors import AssayError, UserError
from assay.packing.libraries import commands_of, files_of

SPARK = "pyspark"  # executors have Spark, and the driver gets it beside the archive: only its name and version go in
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# Of a script that runs wherever it lies: for a shell it starts the Python beside it, for Python it is a text.
HEAD = """#!/bin/sh
'''exec' "$(dirname -- "$(readlink -f -- "$0")")/python" "$0" "$@"
' '''
"""


def stage(folder: Path, wheel: Path) -> Distribution:
    """Make an environment in a folder with nothing but assay in it, and say what assay is.

    Raises:
        AssayError: the wheel is not one.
    """
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    site = folder / "lib" / f"python{PYTHON}" / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    found = sorted(site.glob("assay-*.dist-info"))
    if not found:
        raise AssayError(f"{wheel}: no wheel of assay")
    for old in (folder / "bin").glob("python*"):
        old.unlink()
    python = folder / "bin" / "python"
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    python.write_text(interpreter(base), encoding="utf-8")
    python.chmod(0o755)
    for name in ("python3", f"python{PYTHON}"):
        python.with_name(name).symlink_to("python")
    return PathDistribution(found[0])


def interpreter(base: str) -> str:
    """The script that stands for Python. base: where the interpreter is on this machine."""
    text = (Path(__file__).parent / "python.sh").read_text(encoding="utf-8")
    for name, value in {"VERSION": PYTHON, "BASE": base, "PLATFORM": sysconfig.get_platform()}.items():
        text = text.replace(f"@{name}@", value)
    return text


def install(folder: Path, distributions: Sequence[Distribution]) -> None:
    """Lay libraries into a staged environment, as links where the file system allows, with their commands."""
    for distribution in distributions:
        spark = distribution.name == SPARK
        for file, path in files_of(distribution):
            if not spark or any(part.endswith(".dist-info") for part in path.parts):
                link(file, folder / path)
        for name, code in () if spark else commands_of(distribution):
            script = folder / "bin" / name
            if not script.exists():
                script.write_text(HEAD + code, encoding="utf-8")
                script.chmod(0o755)


def link(file: Path, target: Path) -> None:
    """The same file at another place: a link, or a copy on another file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except FileExistsError:  # some libraries list files of one another
        return
    except OSError:
        shutil.copy2(file, target)


def archived(folder: Path, target: Path, level: int) -> None:
    """Write a staged environment as .tar.gz. level: 0 (as it is) to 9 (smallest).

    Raises:
        UserError: venv-pack is not installed.
        AssayError: it did not succeed.
    """
    try:
        import venv_pack
    except ImportError:
        raise UserError("packing needs venv-pack: run `./spark-submit.sh pack`, or pip install 'assay[pack]'") from None
    try:
        with _scratch_in(target.parent):
            venv_pack.pack(prefix=str(folder), output=str(target), compress_level=level)
        target.chmod(0o644)  # it was a temporary file
    except venv_pack.VenvPackException as error:
        raise AssayError(f"venv-pack: {' '.join(str(error).split())}") from error


@contextlib.contextmanager
def _scratch_in(folder: Path) -> Iterator[None]:
    """venv-pack writes to the folder of temporary files first, which may be small."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
