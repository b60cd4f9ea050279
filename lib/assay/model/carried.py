"""Consumes a model's files, produces the model inside an executor: verified and loaded once per Python worker."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path

from assay.model.bundle import MANIFEST, Model, digest_of

_LOADED: dict[str, Model] = {}
MOST = 8  # models that a worker holds: one that serves and one that was tested, of the champion and of its rivals


@dataclasses.dataclass(frozen=True)
class Carried:
    """A model on its way to executors: bytes only, so that nothing unpicklable is dragged along."""

    files: Mapping[str, bytes]
    threads: int = 1

    @classmethod
    def of(cls, model: Model, threads: int = 1) -> Carried:
        """Pack a model."""
        return cls(dict(model.files), threads)

    def model(self) -> Model:
        """The model, from this process's cache after the first call."""
        key = f"{digest_of(self.files[MANIFEST])}/{self.threads}"
        if key not in _LOADED:
            with tempfile.TemporaryDirectory(prefix="assay-model-") as name:
                for file, content in self.files.items():
                    (Path(name) / file).write_bytes(content)
                if len(_LOADED) >= MOST:
                    _LOADED.clear()  # a worker serves one champion at a time; old ones would only hold memory
                _LOADED[key] = Model.load(Path(name), threads=self.threads)
        return _LOADED[key]
