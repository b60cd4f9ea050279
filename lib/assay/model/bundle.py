"""Consumes what training found out, produces a model that is data plus a hash: saved, verified, loaded anywhere."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from assay import extensions
from assay.config import canonical_json
from assay.errors import AssayError
from assay.model.encoding import Encoding
from assay.model.ensemble import Ensemble
from assay.model.outcome import VALUE, Outcome, every_class
from assay.model.predictors import LOADERS, Predictor, check_engine, load_predictor, stored_file
from assay.model.preparation import Preparation
from assay.model.scale import Floats, TargetScale, as_floats

MANIFEST = "manifest.json"
DESCRIPTION = "model.json"
PREPARATION = "preparation.npz"


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model with everything that predicting needs.

    engine, stored: the learner's kind and bytes.  encoding: inputs.  scale: target.
    plan: the feature plan it was trained on, as data.  facts: split times, rounds, parameters, baselines.
    outcome: what it predicts: a value, quantiles, or the probabilities of classes.
    slope: by how much outcomes followed what was learned of a change from the last known value, on rows that nobody had
        learned from; predictions go that far from that value, and no farther. 1 of other targets.
    extension: module that has the engine, where it is none of assay's own; said to people, and never imported.
    """

    engine: str
    stored: bytes
    encoding: Encoding
    scale: TargetScale
    plan: dict[str, Any]
    plan_hash: str
    facts: dict[str, Any]
    threads: int = 1
    outcome: Outcome = VALUE
    slope: float = 1.0
    extension: str = ""

    @cached_property
    def predictor(self) -> Predictor:
        """The learner, loaded at first use and once per process."""
        return load_predictor(self.engine, self.stored, threads=self.threads)

    @property
    def input_columns(self) -> list[str]:
        """Columns of the features table that predicting reads."""
        return list(dict.fromkeys([*self.encoding.columns, *self.scale.columns]))

    @property
    def learned_until(self) -> str:
        """Time of the newest row that it learned from, ISO 8601."""
        return str(self.facts.get("learned_until") or self.facts["split"]["tune"]["last"])

    @property
    def test_start(self) -> dt.datetime:
        """When its test period begins."""
        test = self.facts["split"]["test"]
        return dt.datetime.fromisoformat(test["start"] or test["first"])

    @property
    def drawn(self) -> bool:
        """Whether what it learned from was drawn by row, and not told from its test by time."""
        return bool(self.facts["split"]["test"].get("drawn"))

    def _learned(self, batch: pa.RecordBatch) -> tuple[Floats, Floats | None]:
        """What the learner predicts, (n,) or (n, width) of a wider outcome, and the disagreement of an ensemble."""
        predictor, matrix, spread = self.predictor, self.encoding.matrix(batch), None
        if isinstance(predictor, Ensemble):
            found, spread = predictor.predict_with_spread(matrix)
        else:
            found = predictor.predict(matrix)
        if self.slope != 1.0:
            followed = self.followed(batch)
            found, spread = followed * found, None if spread is None else followed * spread
        width = self.outcome.width
        return found if width == 1 else found.reshape(batch.num_rows, width), spread

    def followed(self, batch: pa.RecordBatch) -> Floats:
        """`slope` of the rows (n,) whose last value is known, 1 of the others."""
        return np.where(self.scale.anchored(batch), self.slope, 1.0)

    def _value(self, found: Floats) -> Floats:
        """The number (n,) that stands for what was learned: of quantiles the one in the middle."""
        return found if found.ndim == 1 else np.sort(found, axis=1)[:, self.outcome.middle]

    def predict_scaled(self, batch: pa.RecordBatch) -> Floats:
        """Feature batch -> predictions (n,) on the model's scale, where conformity scores live.

        Of quantiles it is the median, or the one nearest to it; of classes what `predict` gives.
        """
        if self.outcome.decides:
            return self.predict(batch)
        return self._value(self._learned(batch)[0])

    def predict(self, batch: pa.RecordBatch) -> Floats:
        """Feature batch -> predictions (n,) in the target's unit.

        Of a binary target the probability of the positive class, of several classes that of the likeliest one.
        """
        if self.outcome.decides:
            found = self.probabilities(batch)
            return found[:, 1] if self.outcome.kind == "binary" else found.max(axis=1, initial=0.0)
        return self.scale.inverse(self.predict_scaled(batch), batch)

    def probabilities(self, batch: pa.RecordBatch) -> Floats:
        """Feature batch -> probabilities (n, K) of the classes of `outcome`; each row's sum is 1."""
        return self.probabilities_with_spread(batch)[0]

    def probabilities_with_spread(self, batch: pa.RecordBatch) -> tuple[Floats, Floats | None]:
        """The same, and the disagreement (n,) of an ensemble's members, from 0 to 1; None for a model without."""
        found, spread = self._learned(batch)
        return every_class(found), spread

    def scaled_quantiles(self, batch: pa.RecordBatch) -> tuple[Floats, Floats | None]:
        """Feature batch -> (n, Q) on the model's scale, one column per level of `outcome`, and the disagreement.

        They do not cross: each row is sorted, which never makes the pinball loss worse (Chernozhukov and others, 2010).
        """
        found, spread = self._learned(batch)
        return np.sort(found.reshape(batch.num_rows, self.outcome.width), axis=1), spread

    def predict_quantiles(self, batch: pa.RecordBatch) -> Floats:
        """Feature batch -> (n, Q) in the target's unit, one column per level of `outcome`, as `scaled_quantiles`."""
        return np.column_stack([self.scale.inverse(column, batch) for column in self.scaled_quantiles(batch)[0].T])

    def truth(self, batch: pa.RecordBatch) -> Floats:
        """Labelled feature batch -> (n,): the outcome on the model's scale, of classes its code."""
        return self.scale.forward(as_floats(batch.column(self.scale.target)), batch)

    def predict_with_spread(self, batch: pa.RecordBatch) -> tuple[Floats, Floats | None]:
        """Feature batch -> what `predict_scaled` gives of a number, and the disagreement (n,) of an ensemble's members.

        None for a model without members.
        """
        found, spread = self._learned(batch)
        return self._value(found), spread

    def disagreement(self, batch: pa.RecordBatch) -> Floats | None:
        """How far an ensemble's members are apart (n,), as `Combination.spread` has it; None without members."""
        return self._learned(batch)[1]

    @property
    def engines(self) -> tuple[str, ...]:
        """Engines whose learners are in the model: one, or those of an ensemble's members."""
        told = [m["engine"] for m in self.facts.get("ensemble", {}).get("members", ()) if m["weight"] > 0]
        return tuple(dict.fromkeys(told)) if self.engine == "ensemble" else (self.engine,)

    def residual_inputs(self, batch: pa.RecordBatch) -> tuple[Floats, Floats]:
        """Labelled feature batch -> (truth, prediction), both (n,) on the model's scale."""
        return self.truth(batch), self.predict_scaled(batch)

    def importance(self) -> dict[str, float]:
        """Feature name -> what it is worth by the learner's own measure, greatest first."""
        names = self.encoding.features
        gains = {names[i]: gain for i, gain in self.predictor.importance().items()}
        return dict(sorted(gains.items(), key=lambda item: -item[1]))

    def importance_shares(self) -> dict[str, float]:
        """The same as shares of their sum, 0 to 1; empty where the learner cannot say, or used no feature."""
        worth = self.importance()
        total = sum(worth.values())
        return {name: value / total for name, value in worth.items()} if total > 0 else {}

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The model as files, manifest last."""
        description: dict[str, Any] = {
            "engine": self.engine,
            "encoding": self.encoding.to_dict(),
            "scale": self.scale.to_dict(),
            "plan": self.plan,
            "plan_hash": self.plan_hash,
            "facts": self.facts,
        }
        if self.outcome != VALUE:
            description["outcome"] = self.outcome.to_dict()
        if self.slope != 1.0:
            description["slope"] = self.slope
        if module := self.extension or _module_of(self.engine):
            description["extension"] = module
        files = {stored_file(self.engine): self.stored}
        if self.encoding.preparation is not None:
            description["preparation"], files[PREPARATION] = self.encoding.preparation.to_files()
        files[DESCRIPTION] = canonical_json(description).encode()
        return {**files, MANIFEST: manifest_of(files)}

    @property
    def version(self) -> str:
        """First 12 hex digits of the SHA-256 of the manifest: equal models have equal versions."""
        return digest_of(self.files[MANIFEST])[:12]

    def save(self, folder: Path) -> None:
        """Write the files."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        sha256: str | None = None,
        threads: int = 1,
        name: str | None = None,
        beside: Collection[str] = (),
    ) -> Model:
        """Read a model after checking every file against the manifest, and the manifest against `sha256`.

        name: of the model, for people.  beside: files in its folder that the manifest does not name.

        Raises:
            AssayError: a file is missing, was changed, or is named by no manifest.
            UserError: its engine is of an extension that is not here.
        """
        name = name or f"model in {folder.name}"
        files = verified_files(folder, sha256=sha256, name=name, beside=beside)
        tree = json.loads(files[DESCRIPTION])
        check_engine(tree["engine"], tree.get("extension", ""))
        learner = stored_file(tree["engine"])
        if learner not in files:
            raise AssayError(f"{name}: file {learner} is missing; refusing to load it")
        preparation = None
        if "preparation" in tree:
            if PREPARATION not in files:
                raise AssayError(f"{name}: file {PREPARATION} is missing; refusing to load it")
            try:
                preparation = Preparation.from_files(tree["preparation"], files[PREPARATION])
            except (ValueError, KeyError, TypeError):  # pickled objects among them
                raise AssayError(f"{name}: file {PREPARATION} cannot be read; refusing to load it") from None
        return cls(
            engine=tree["engine"],
            stored=files[learner],
            encoding=Encoding.from_dict(tree["encoding"], preparation),
            scale=TargetScale(**tree["scale"]),
            plan=tree["plan"],
            plan_hash=tree["plan_hash"],
            facts=tree["facts"],
            threads=threads,
            outcome=Outcome.from_dict(tree["outcome"]) if "outcome" in tree else VALUE,
            slope=float(tree.get("slope", 1.0)),
            extension=tree.get("extension", ""),
        )


def _module_of(engine: str) -> str:
    found = extensions.find("engine", engine) if engine not in LOADERS else None
    return found.module if found is not None else ""


def digest_of(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def manifest_of(files: dict[str, bytes]) -> bytes:
    """File name -> SHA-256, as JSON."""
    return canonical_json({name: digest_of(content) for name, content in files.items()}).encode()


def verified_files(
    folder: Path, *, sha256: str | None = None, name: str | None = None, beside: Collection[str] = ()
) -> dict[str, bytes]:
    """Files of a bundle whose hashes hold. name, beside: as in `Model.load`.

    Raises:
        AssayError: names the file that is missing, was changed, or is named by no manifest.
    """
    files, problems = inspected(folder, sha256=sha256, beside=beside)
    if problems:
        raise AssayError(f"{name or f'model in {folder.name}'}: {problems[0]}; refusing to load it")
    return files


def inspected(
    folder: Path, *, sha256: str | None = None, beside: Collection[str] = ()
) -> tuple[dict[str, bytes], list[str]]:
    """Files of a bundle by name, and what is wrong with them, one sentence a file. Arguments as in `verified_files`."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}, [f"{MANIFEST} is missing"]
    manifest = path.read_bytes()
    if sha256 is not None and digest_of(manifest) != sha256:
        return {}, [f"{MANIFEST} is not the one on record"]
    try:
        listed = json.loads(manifest)
    except ValueError:
        listed = None
    if not isinstance(listed, dict) or DESCRIPTION not in listed:
        return {}, [f"{MANIFEST} was changed after it was saved"]
    files, found = {MANIFEST: manifest}, []
    for name, expected in listed.items():
        if Path(name).name != name or name in {"", ".", ".."}:
            found.append(f"{MANIFEST} names {name!r}, which is no file of the model's own folder")
        elif not (folder / name).is_file():
            found.append(f"file {name} is missing")
        else:
            files[name] = (folder / name).read_bytes()
            if digest_of(files[name]) != expected:
                found.append(f"file {name} was changed after it was saved")
    strange = sorted({path.name for path in folder.iterdir()} - {*listed, MANIFEST, *beside})
    return files, found + [f"file {name} is named by no manifest" for name in strange]
