"""Consumes conformity scores and a segment label per row, produces a `Calibration`: quantiles by segment and level."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.config import canonical_json
from assay.conformal.class_sets import SET_SCORES
from assay.conformal.difficulty import Difficulty
from assay.conformal.pace import Pace
from assay.conformal.quantiles import conformal_rank, grouped_quantiles
from assay.conformal.scores import AbsoluteResidual, Part, check_extension, extension_of, score_named
from assay.conformal.selection import Floats
from assay.conformal.weighted import grouped_weighted_quantiles

Labels = npt.NDArray[np.object_]

ALL_ROWS = ""  # label of all calibration rows together; no segment of any columns can have it
MISSING = "∅"  # a segment value that is absent; the text '∅' itself is escaped

_CALIBRATION_FIELDS = {
    "levels": list,
    "segment_columns": list,
    "score": str,
    "min_segment_rows": int,
    "quantiles": dict,
}
_SEGMENT_FIELDS = {"rows": int, "quantiles": list}
_COLUMN = re.compile(r"(?:\\.|[^\\|])+", re.DOTALL)  # a column of a label; what is escaped does not end it
_INFINITE = {"inf": np.inf, "-inf": -np.inf}


class SegmentQuantiles(NamedTuple):
    """Calibration rows of a segment and its conformal quantiles, one per part of the score (`ConformalScore.parts`)."""

    rows: int
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """What turns a prediction into intervals: plain data, the same wherever it is loaded.

    levels: promised coverages, (L,). segment_columns: columns whose values make a label, the broadest first: a label
    without its last column is its parent's, up to `ALL_ROWS`. score: name of a kind.
    min_segment_rows: below it a segment uses its parent.
    quantiles: segment label -> rows and quantiles on the model's scale; `ALL_ROWS` is always there.
    difficulty: the scale of normalised scores; None for other kinds.
    own_width: median width of the model's own interval at the widest level, where its score starts from one, else 0.
    pace: how quantiles follow the misses in time; None where they stay as they were fitted.

    Of parts that share a column of scores a higher level never gets a smaller quantile: one segment serves all levels
    of a row, its ranks ceil((n + 1) * level) do not fall as the level rises, and order statistics do not fall as the
    rank rises.
    Raises ValueError on contradictions, such as a missing `ALL_ROWS` or quantiles that fall as the level rises.
    """

    levels: tuple[float, ...]
    segment_columns: tuple[str, ...]
    score: str
    min_segment_rows: int
    quantiles: Mapping[str, SegmentQuantiles]
    difficulty: Difficulty | None = None
    own_width: float = 0.0
    pace: Pace | None = None

    def __post_init__(self) -> None:
        if self.score not in SET_SCORES:
            score_named(self.score)
        for level in self.levels:
            conformal_rank(0, level)  # refuses what is no level
        if not self.levels or len(set(self.levels)) != len(self.levels):
            raise ValueError(f"levels must be at least one and all different, found {list(self.levels)}")
        if self.min_segment_rows < 1:
            raise ValueError(f"min_segment_rows must be at least 1, found {self.min_segment_rows}")
        if ALL_ROWS not in self.quantiles:
            raise ValueError("a calibration needs the quantiles of all rows together, under the empty label")
        parts = self.parts
        columns = {part.column for part in parts}
        rising = [sorted((p.promise, i) for i, p in enumerate(parts) if p.column == c) for c in columns]
        for label, (rows, quantiles) in self.quantiles.items():
            values = np.array(quantiles, dtype=np.float64)
            if (
                rows < 0
                or values.shape != (len(parts),)
                or not all(_rises(values[[place for _, place in column]]) for column in rising)
            ):
                raise ValueError(f"segment {label!r}: {rows} rows with quantiles {quantiles} at levels {self.levels}")

    @property
    def parts(self) -> tuple[Part, ...]:
        """What each of a segment's quantiles is for; of sets of classes one per level."""
        return parts_of(self.score, self.levels)

    def label_used(self, label: str) -> str:
        """Return the segment whose quantiles serve `label`: itself, or the nearest of its parents that can.

        One that was never seen cannot, nor one with fewer than `min_segment_rows` rows, nor one that is infinite at a
        level where all rows together are finite: a promise over more rows beats an empty one over few.
        """
        whole = self.quantiles[ALL_ROWS].quantiles
        while label != ALL_ROWS:
            segment = self.quantiles.get(label)
            if (
                segment is not None
                and segment.rows >= self.min_segment_rows
                and not any(own == np.inf > all_of_it for own, all_of_it in zip(segment.quantiles, whole, strict=True))
            ):
                return label
            label = parent(label)
        return ALL_ROWS

    def quantiles_for(self, labels: npt.ArrayLike) -> tuple[Floats, Labels]:
        """Return the quantiles (n, P) and the label of the segment they come from (n,), for rows of any segments.

        Raises ValueError when labels are not (n,).
        """
        codes, distinct = factorise(_column(labels, "labels").tolist())
        used = [self.label_used(label) for label in distinct]
        table = np.array([self.quantiles[label].quantiles for label in used], dtype=np.float64)
        return table.reshape(len(used), len(self.parts))[codes], _objects(used)[codes]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for strict JSON: an infinite quantile, for which JSON has no number, is the text "inf"."""
        own: dict[str, Any] = {} if self.difficulty is None else {"difficulty": self.difficulty.to_dict()}
        own |= {"own_width": self.own_width} if self.own_width else {}
        own |= {"pace": self.pace.to_dict()} if self.pace is not None else {}
        extended = extension_of(self.score)
        own |= {"score_of": extended} if extended else {}
        return own | {
            "levels": list(self.levels),
            "segment_columns": list(self.segment_columns),
            "score": self.score,
            "min_segment_rows": self.min_segment_rows,
            "quantiles": {
                label: {"rows": rows, "quantiles": [str(q) if np.isinf(q) else q for q in quantiles]}
                for label, (rows, quantiles) in self.quantiles.items()
            },
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Calibration:
        """Return the calibration that `to_dict` wrote, equal to the last bit.

        Raises ValueError naming the field for unknown, missing or mistyped fields, and on contradictions.
        """
        given = dict(_typed(data, dict, "calibration"))
        difficulty = Difficulty.from_dict(given.pop("difficulty")) if "difficulty" in given else None
        own_width = _typed(given.pop("own_width", 0.0), float, "own_width")
        pace = Pace.from_dict(given.pop("pace")) if "pace" in given else None
        if "score_of" in given:
            check_extension(str(given.get("score")), _typed(given.pop("score_of"), str, "score_of"))
        fields = _fields(given, _CALIBRATION_FIELDS, "calibration")
        return cls(
            pace=pace,
            own_width=own_width,
            difficulty=difficulty,
            levels=tuple(_typed(level, float, "levels") for level in fields["levels"]),
            segment_columns=tuple(_typed(name, str, "segment_columns") for name in fields["segment_columns"]),
            score=fields["score"],
            min_segment_rows=fields["min_segment_rows"],
            quantiles={_typed(label, str, "quantiles"): _segment(label, q) for label, q in fields["quantiles"].items()},
        )

    @property
    def version(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the canonical JSON: equal calibrations, equal versions."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode()).hexdigest()[:12]


def fit(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    levels: Sequence[float],
    *,
    min_segment_rows: int,
    segment_columns: Sequence[str] = (),
    score: str = AbsoluteResidual.name,
    shrinkage_rows: float = 0.0,
    weights: npt.ArrayLike | None = None,
    difficulty: Difficulty | None = None,
    own_width: float = 0.0,
) -> Calibration:
    """Return the split-conformal calibration of all rows, segments and their parents (Mondrian; Vovk et al. 2005).

    scores: (n,), or (n, S) of a kind with several columns, on the model's scale, of rows the model has not seen.
    labels: (n,) texts from `segment_labels`; `ALL_ROWS` marks a row of no segment. The order of rows does not matter.
    Every segment is kept, even one with too few rows, so that what it would have used can be seen. An empty calibration
    set gives infinite quantiles: no finite interval keeps a promise that no row supports.
    shrinkage_rows: a segment's finite quantiles move towards its parent's as if so many rows spoke for those,
    (n * own + shrinkage_rows * parent's) / (n + shrinkage_rows): steadier for small segments, and no longer exact. At 0
    every quantile is exact.
    weights: (n,) of the rows, 1 for one of now (`exponential_weights`); None counts all alike. What they cost coverage
    is bounded by how far the rows are from being exchangeable (Barber et al. 2023).

    Raises ValueError for NaN scores, lengths that differ, labels that are no text and levels outside (0, 1).
    """
    values, names = np.asarray(scores, dtype=np.float64), _column(labels, "labels")
    if values.shape[:1] != names.shape:
        raise ValueError(f"scores have shape {values.shape}, labels {names.shape}")
    columns = values[:, None] if values.ndim == 1 else values
    codes, distinct = factorise(names.tolist())
    for label in distinct:
        _typed(label, str, "labels")
    levels = tuple(float(level) for level in levels)
    parts = parts_of(score, levels)
    if len({part.column for part in parts}) != columns.shape[1]:
        raise ValueError(f"score {score} has {len({p.column for p in parts})} column(s), found {columns.shape[1]}")
    everyone, _ = _grouped(np.zeros(len(values), dtype=np.int64), columns, 1, parts, weights)
    found = {ALL_ROWS: SegmentQuantiles(len(values), tuple(everyone[0].tolist()))}
    while distinct != [ALL_ROWS] and distinct:
        quantiles, rows = _grouped(codes, columns, len(distinct), parts, weights)
        for label, count, own in sorted(zip(distinct, rows.tolist(), quantiles.tolist(), strict=True)):
            if label != ALL_ROWS:
                found[label] = SegmentQuantiles(count, tuple(own))
        deepest = max(map(depth, distinct))
        above, distinct = factorise(parent(label) if depth(label) == deepest else label for label in distinct)
        codes = above[codes]
    if shrinkage_rows > 0:
        found = _shrunk(found, shrinkage_rows)
    return Calibration(
        levels=levels,
        segment_columns=tuple(segment_columns),
        score=score,
        min_segment_rows=int(min_segment_rows),
        quantiles=dict(sorted(found.items())),
        difficulty=difficulty,
        own_width=own_width,
    )


def parts_of(score: str, levels: Sequence[float]) -> tuple[Part, ...]:
    """The parts of a kind of score, of numbers or of classes. Raises ValueError for an unknown one."""
    if score in SET_SCORES:
        return tuple(Part(i, 0, float(level)) for i, level in enumerate(levels))
    return score_named(score).parts(levels)


def parent(label: str) -> str:
    """The label without its last column; of one column `ALL_ROWS`."""
    return "|".join(_COLUMN.findall(label)[:-1])


def depth(label: str) -> int:
    """Columns of the label: 0 for `ALL_ROWS`."""
    return len(_COLUMN.findall(label))


def _grouped(
    codes: npt.NDArray[np.int64],
    columns: Floats,
    groups: int,
    parts: Sequence[Part],
    weights: npt.ArrayLike | None,
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Quantiles (G, P) and rows (G,): one pass per column of scores."""
    quantiles, rows = np.full((groups, len(parts)), np.inf), np.zeros(groups, dtype=np.int64)
    for column in sorted({part.column for part in parts}):
        own = [place for place, part in enumerate(parts) if part.column == column]
        promises = [parts[place].promise for place in own]
        if weights is None:
            found, rows = grouped_quantiles(codes, columns[:, column], groups, promises)
        else:
            found, rows = grouped_weighted_quantiles(codes, columns[:, column], weights, groups, promises)
        quantiles[:, own] = found
    return quantiles, rows


def _shrunk(found: Mapping[str, SegmentQuantiles], shrinkage_rows: float) -> dict[str, SegmentQuantiles]:
    """Quantiles moved towards those of the parent, itself moved before. Infinite ones stay: they tell of few rows."""
    moved = {ALL_ROWS: found[ALL_ROWS]}
    for label in sorted(found, key=depth):
        if label == ALL_ROWS:
            continue
        rows, own = found[label]
        above = np.array(moved[parent(label)].quantiles)
        with np.errstate(invalid="ignore"):
            mixed = (rows * np.array(own) + shrinkage_rows * above) / (rows + shrinkage_rows)
        usable = np.isfinite(own) & np.isfinite(above)
        moved[label] = SegmentQuantiles(rows, tuple(np.where(usable, mixed, own).tolist()))
    return moved


def segment_labels(columns: Mapping[str, npt.ArrayLike], *, rows: int | None = None) -> Labels:
    r"""Return a label per row, (n,) texts such as ``zipcode=98001|grade=7``, in the order of `columns`.

    columns: name -> (n,) texts; None and NaN are missing values, written ``∅``. `rows` is needed only without columns,
    where every row is of `ALL_ROWS`. Different rows never share a label: ``\``, ``=``, ``|`` and ``∅`` in names and
    texts are escaped by ``\``. Each distinct combination is written once, so 1M rows take a fraction of a second.

    Raises ValueError for columns of different lengths and for values that are neither text nor missing.
    """
    lists = {name: _column(values, f"segment column {name!r}").tolist() for name, values in columns.items()}
    if not lists and rows is None:
        raise ValueError("without segment columns the number of rows must be given")
    if len({len(values) for values in lists.values()} | ({rows} if rows is not None else set())) > 1:
        lengths = {name: len(values) for name, values in lists.items()}
        raise ValueError(f"segment columns need one length, found {lengths}{f' for {rows} rows' if rows else ''}")
    if not lists:
        return np.full(rows or 0, ALL_ROWS, dtype=object)
    codes, combinations = factorise(zip(*lists.values(), strict=True))
    names = [_escape(name) for name in lists]
    written = [{value: _value(name, value) for value in dict.fromkeys(lists[name])} for name in lists]
    texts = [
        "|".join(f"{name}={text[value]}" for name, text, value in zip(names, written, combination, strict=True))
        for combination in combinations
    ]
    return _objects(texts)[codes]


def labels_in(column: pa.ChunkedArray) -> Labels:
    """A column of labels as objects (n,). Equal ones are one text in memory, as there may be many millions."""
    encoded = column.combine_chunks().dictionary_encode()
    labels: Labels = _objects(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()]
    return labels


def factorise(values: Iterable[Any]) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Code of each value and the distinct values in order of appearance: hashing, because texts are slow to sort."""
    index: dict[Any, int] = {}
    codes = np.fromiter((index.setdefault(value, len(index)) for value in values), dtype=np.int64)
    return codes, list(index)


def _objects(values: Sequence[str]) -> Labels:
    return np.fromiter(values, dtype=object, count=len(values))


def _column(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    if array.ndim != 1:
        raise ValueError(f"{what} must be one-dimensional, found shape {array.shape}")
    return array


def _value(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return MISSING
    return _escape(_typed(value, str, f"segment column {name!r}"))


def _escape(text: str) -> str:
    for special in ("\\", "=", "|", MISSING):
        text = text.replace(special, f"\\{special}")
    return text


def _rises(values: Floats) -> bool:
    return bool(np.all(values[:-1] <= values[1:])) and not bool(np.isnan(values).any())


def _typed(value: Any, kind: type, field: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{field}: expected {kind.__name__}, found {value!r}")
    return value


def _fields(data: Any, kinds: Mapping[str, type], where: str) -> dict[str, Any]:
    found = _typed(data, dict, where)
    if set(found) != set(kinds):
        raise ValueError(f"{where}: expected the fields {sorted(kinds)}, found {sorted(map(str, found))}")
    return {name: _typed(found[name], kind, f"{where}.{name}") for name, kind in kinds.items()}


def _segment(label: Any, data: Any) -> SegmentQuantiles:
    where = f"quantiles[{label!r}]"
    fields = _fields(data, _SEGMENT_FIELDS, where)
    quantiles = (_INFINITE.get(q, q) if isinstance(q, str) else q for q in fields["quantiles"])
    return SegmentQuantiles(fields["rows"], tuple(_typed(q, float, where) for q in quantiles))
