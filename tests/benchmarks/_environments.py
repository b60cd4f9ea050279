"""Consumes an extra of pyproject.toml, produces a Python that has it: libraries whose pins clash with the locked ones.

Each has an environment of its own below `build/benchmarks`, made at its first use and again when the extra changes; the
environment that tests run in stays as it is.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import CACHE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def requirements(extra: str) -> list[str]:
    """What pyproject.toml lists for an extra."""
    found = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"][extra]
    return [str(one) for one in found]


def python_with(extra: str) -> Path:
    """The interpreter of an extra's own environment.

    Raises:
        subprocess.CalledProcessError: it cannot be made, as where no package index is reached.
    """
    wanted = requirements(extra)
    digest = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    folder = CACHE / "environments" / f"{extra}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "_READY").exists():
        print(f"  making an environment for {', '.join(wanted)} ...", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
        if uv is not None:
            _run(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
            _run(uv, "pip", "install", "--quiet", "--python", str(python), *wanted)
        else:
            _run(sys.executable, "-m", "venv", str(folder))
            _run(str(python), "-m", "pip", "install", "--quiet", *wanted)
        (folder / "_READY").touch()
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)
