"""Consumes the installed package, produces a zip that Spark can put on an executor's Python path."""

from __future__ import annotations

import functools
import hashlib
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

SUFFIXES = {".py", ".j2", ".typed"}


def package_zip(folder: Path | None = None) -> Path | None:
    """Zip of `assay`'s own code. The name holds a hash of the content, so that equal code is shipped once.

    None where `assay` itself comes out of a zip: whoever gave Spark that one has shipped it already. Without `folder`
    it lies in one that is removed when the process ends. Spark takes no wheels in `--py-files`; it imports from zips.
    """
    root = Path(__file__).resolve().parents[1]
    if not root.is_dir():
        return None
    return _zipped("assay", _inside(root), folder)


def module_zip(module: str, folder: Path | None = None) -> Path | None:
    """The same of the module or package that an imported module is part of.

    None where it is installed, as it is then on executors too, or comes out of a zip that was shipped already.
    """
    top = module.partition(".")[0]
    spec = sys.modules[top].__spec__
    roots = [Path(p) for p in (spec.submodule_search_locations if spec is not None else None) or ()]
    origin = Path(spec.origin) if spec is not None and spec.origin is not None else None
    paths = sysconfig.get_paths()
    installed = [Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    place = (roots[0] if roots else origin or Path()).resolve()
    if any(place.is_relative_to(folder) for folder in installed):
        return None
    files = [pair for root in roots if root.is_dir() for pair in _inside(root, top)]
    if not roots and origin is not None and origin.is_file():
        files = [(origin, Path(f"{top}.py"))]
    return _zipped(top, files, folder) if files else None


def _inside(root: Path, name: str | None = None) -> list[tuple[Path, Path]]:
    """Source files below a package's folder, and their places in a zip."""
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix in SUFFIXES)
    return [(file, Path(name or root.name) / file.relative_to(root)) for file in files]


def _zipped(name: str, files: Sequence[tuple[Path, Path]], folder: Path | None) -> Path:
    digest = hashlib.sha256()
    for file, place in files:
        digest.update(str(place).encode())
        digest.update(file.read_bytes())
    target = (folder or Path(_own_folder().name)) / f"{name}-{digest.hexdigest()[:12]}.zip"
    if not target.exists():
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for file, place in files:
                archive.write(file, place)
    return target


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="assay-code-")
