"""Consumes the installed package, produces a zip that Spark can put on an executor's Python path."""

from __future__ import annotations

import functools
import hashlib
import tempfile
import zipfile
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
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix in SUFFIXES)
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(root)).encode())
        digest.update(file.read_bytes())
    target = (folder or Path(_own_folder().name)) / f"assay-{digest.hexdigest()[:12]}.zip"
    if not target.exists():
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, Path("assay") / file.relative_to(root))
    return target


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="assay-code-")
