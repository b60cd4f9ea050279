"""Consumes the folder of a registered model, produces the list of its files' hashes, and what was changed since.

The list is written once the folder is complete; its own hash is kept apart from it, in the registry.
"""

from __future__ import annotations

import json
from pathlib import Path

from assay.config import canonical_json
from assay.errors import AssayError
from assay.model.bundle import digest_of

FILES = "files.json"
META = "registered_model_meta"  # which MLflow writes beside a model that it was asked for by its registered name


def listing(folder: Path) -> bytes:
    """Path -> SHA-256 of every file below a folder but the list itself, as JSON."""
    found = {path: digest_of((folder / path).read_bytes()) for path in _paths(folder)}
    return canonical_json(found).encode()


def problems(folder: Path, *, sha256: str | None = None) -> list[str]:
    """What is wrong with a folder's files, one sentence a file; nothing where all are as they were listed.

    sha256: of the list, where it is on record.
    """
    path = folder / FILES
    if not path.is_file():
        return [f"file {FILES} is missing"]
    content = path.read_bytes()
    found = []
    if sha256 is not None and digest_of(content) != sha256:
        found.append(f"file {FILES} is not the one on record")
    try:
        listed = json.loads(content)
    except ValueError:
        listed = None
    if not isinstance(listed, dict):
        return found or [f"file {FILES} was changed after it was saved"]
    there = set(_paths(folder))
    found += [f"file {name} is missing" for name in sorted(set(listed) - there)]
    changed = (n for n in sorted(there & set(listed)) if digest_of((folder / n).read_bytes()) != listed[n])
    found += [f"file {name} was changed after it was saved" for name in changed]
    return found + [f"file {name} is in no list of the model's files" for name in sorted(there - set(listed))]


def check(folder: Path, name: str, *, sha256: str | None = None) -> None:
    """Refuse a folder of which one file is not as it was listed. name: of the model, for people.

    Raises:
        AssayError: names the model and the first such file, and says how many more there are.
    """
    found = problems(folder, sha256=sha256)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise AssayError(f"{name}: {found[0]}{more}; refusing to load it")


def name_of(folder: Path) -> str:
    """What MLflow calls the registered model that it left in a folder, for people."""
    import yaml

    try:
        meta = yaml.safe_load((folder / META).read_text(encoding="utf-8"))
        return f"model {meta['model_name']} version {meta['model_version']}"
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return f"model in {folder.name}"


def _paths(folder: Path) -> list[str]:
    """Files below a folder, without the list, and without what MLflow and Python leave in a store of local files.

    Compiled code is read by no load but MLflow's own, which runs it before it asks anybody.
    """
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(
        path.as_posix()
        for path in found
        if path.as_posix() not in {FILES, META} and not (path.parts[0] == "__pycache__" and path.suffix == ".pyc")
    )
