"""Consumes the installed package, produces a zip that Spark can put on an executor's Python path."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

import assay


def package_zip(folder: Path | None = None) -> Path:
    """Zip of `assay`'s own code. The name holds a hash of the content, so that equal code is shipped once.

    Spark takes no wheels in `--py-files`; a zip of their content is what it imports from.
    """
    root = Path(assay.__file__).parent
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix in {".py", ".j2", ".typed"})
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(root)).encode())
        digest.update(file.read_bytes())
    target_folder = folder or Path(tempfile.mkdtemp(prefix="assay-code-"))
    target = target_folder / f"assay-{digest.hexdigest()[:12]}.zip"
    if not target.exists():
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, Path("assay") / file.relative_to(root))
    return target
