"""Consumes numbers known before the test period, checks the bands and clusters that are made of them."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from assay.config.dataset import ColumnsConfig, DatasetConfig, SourceConfig
from assay.config.evaluation import ClustersConfig, EvaluationConfig
from assay.config.target import TargetConfig
from assay.errors import DataError
from assay.evaluation.cuts import Cuts
from assay.evaluation.past import Columns, looked_back
from assay.model.clusters import find_clusters

SEED = 3


def test_bands_are_equally_full_and_are_what_their_names_say():
    known = np.random.default_rng(0).lognormal(12, 0.5, 20_000)
    bands = Cuts.of(known, 5)
    names, counts = np.unique(bands.assign(known), return_counts=True)
    assert list(names) == bands.names == sorted(bands.names)
    assert np.all(np.abs(counts / len(known) - 0.2) < 0.01)
    first = bands.edges[0]
    assert bands.names[0] == f"1: up to {first:,.0f}"
    assert bands.assign(np.array([first, np.nextafter(first, np.inf), np.nan])) == [
        bands.names[0],
        bands.names[1],
        None,
    ]


def test_few_values_are_segments_of_their_own_and_new_ones_join_the_nearest():
    cuts = Cuts.of(np.array([1.0, 2.0, 2.0, 5.0]), 4, whole=True)
    assert cuts.names == ["1", "2", "5"]
    assert cuts.assign(np.array([2.0, 3.0, 4.0, 99.0, np.nan])) == ["2", "2", "5", "5", None]


@pytest.mark.parametrize("known", [np.empty(0), np.full(50, 7.0), np.array([np.nan, np.nan])])
def test_what_does_not_vary_is_one_band(known):
    bands = Cuts.of(known, 5)
    assert bands.names == ["all"]
    assert bands.assign(np.array([1.0, 8.0])) == ["all", "all"]


def blobs(sizes=(300, 200, 100), seed=SEED):
    """Three groups that differ in two inputs of very different scale; a third input is noise."""
    random = np.random.default_rng(seed)
    centres = np.array([[0, 0, 0], [8, 0, 0], [0, 8000, 0]], dtype=float)
    parts = [centre + random.normal(0, [1, 1000, 1], (n, 3)) for centre, n in zip(centres, sizes, strict=True)]
    return np.vstack(parts), np.repeat(np.arange(3), sizes)


def test_clusters_find_what_is_there_whatever_its_scale():
    values, truth = blobs()
    found = find_clusters(values, ("rooms", "lot", "noise"), number=0, most=6, seed=SEED)
    assert len(found.centres) == 3  # chosen by the silhouette, of 2 to 6
    names = np.array(found.assign(values))
    for group in range(3):
        _, counts = np.unique(names[truth == group], return_counts=True)
        assert counts.max() / counts.sum() > 0.97
    assert found.shares == pytest.approx((1 / 2, 1 / 3, 1 / 6), abs=0.02)
    assert [name.split(": ")[1].split(",")[0] for name in found.names[1:]] == ["rooms high", "lot high"]
    assert found.silhouette > 0.4


def test_clusters_are_the_same_for_the_same_seed_and_take_missing_values():
    values, _ = blobs()
    values[::7, 0] = np.nan
    one, other = (find_clusters(values, ("a", "b", "c"), number=4, most=6, seed=SEED) for _ in range(2))
    np.testing.assert_array_equal(one.centres, other.centres)
    assert len(one.centres) == 4
    assert None not in one.assign(values)


def test_nothing_to_tell_apart_makes_no_clusters():
    values, _ = blobs()
    assert find_clusters(values, ("a", "b", "c"), number=1, most=6, seed=SEED) is None
    assert find_clusters(values[:50], ("a", "b", "c"), number=0, most=6, seed=SEED) is None
    assert find_clusters(np.ones((500, 2)), ("a", "b"), number=0, most=6, seed=SEED) is None


def past_table(outcome, prediction=None, order=None):
    n = len(outcome)
    columns = {
        "hash": np.arange(n),
        "prediction": outcome if prediction is None else prediction,
        "outcome": outcome,
        "of size": np.arange(n, dtype=float),
    }
    table = pa.table(columns)
    return table if order is None else table.take(order)


COLUMNS = Columns(texts=(), numbers=("size",), clustered=("size",), factors=("size",))


def test_looking_back_does_not_depend_on_the_order_that_tasks_end_in():
    outcome = np.random.default_rng(1).lognormal(3, 1, 2_000)
    order = np.random.default_rng(2).permutation(2_000)
    target = TargetConfig("price", transform="log")
    one, other = (
        looked_back(past_table(outcome, order=o), COLUMNS, EvaluationConfig(), target, "lag", seed=SEED)
        for o in (None, order)
    )
    assert one.bands == other.bands
    assert one.cuts == other.cuts
    np.testing.assert_array_equal(one.clusters.centres, other.clusters.centres)
    assert (one.direction, one.typical) == ("last_value", None)


def test_a_target_that_goes_both_ways_has_its_direction_from_zero():
    outcome = np.random.default_rng(1).normal(0, 4, 2_000)
    seen = looked_back(past_table(outcome), COLUMNS, EvaluationConfig(), TargetConfig("profit"), None, seed=SEED)
    assert seen.direction == "zero"
    assert seen.typical == pytest.approx(np.median(np.abs(outcome)))
    change = TargetConfig("profit", relative_to="last_value")
    assert (
        looked_back(past_table(outcome), COLUMNS, EvaluationConfig(), change, "lag", seed=SEED).direction
        == "last_value"
    )


def test_a_few_outcomes_below_zero_change_nothing():
    outcome = np.random.default_rng(1).lognormal(3, 1, 2_000)
    outcome[:20] *= -1
    seen = looked_back(past_table(outcome), COLUMNS, EvaluationConfig(), TargetConfig("sales"), "lag", seed=SEED)
    assert (seen.direction, seen.typical) == ("last_value", None)


def test_without_a_last_value_the_reason_is_said():
    outcome = np.random.default_rng(1).lognormal(3, 1, 2_000)
    columns = dataclasses.replace(COLUMNS, clustered=())
    seen = looked_back(past_table(outcome), columns, EvaluationConfig(), TargetConfig("price"), None, seed=SEED)
    assert seen.direction is None
    assert "features.lags" in seen.why
    assert seen.clusters is None


class Known:
    """A model as far as `Columns` asks."""

    class encoding:
        categories = ("district",)

    @staticmethod
    def importance():
        return {"size": 5.0, "district": 4.0, "age": 3.0, "rooms": 1.0}


FEATURES = pa.schema(
    [
        *(pa.field(name, pa.float32()) for name in ("size", "age", "rooms", "year")),
        *(pa.field(name, pa.string()) for name in ("district", "kind")),
    ]
)


def dataset_of(numeric=("rooms", "year"), segments=("district",)):
    return DatasetConfig(
        name="flats",
        source=SourceConfig("flats.csv"),
        entity=("flat",),
        targets=(TargetConfig("price"),),
        columns=ColumnsConfig(numeric=numeric),
        segments=segments,
    )


def test_any_column_may_split_results_and_what_similar_means_is_by_attributes():
    config = EvaluationConfig(segments=("year", "kind"))
    found = Columns.of(dataset_of(), config, Known, FEATURES)
    assert (found.texts, found.numbers, found.clustered) == (("district", "kind"), ("year",), ("rooms", "year"))
    assert set(found.factors) == {"year", "size", "age", "rooms"}
    bare = Columns.of(dataset_of(numeric=()), EvaluationConfig(), Known, FEATURES)
    assert bare.clustered == ("size", "age", "rooms")  # what the model goes by; a category is no number
    chosen = EvaluationConfig(clusters=ClustersConfig(columns=("age",)))
    assert Columns.of(dataset_of(), chosen, Known, FEATURES).clustered == ("age",)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EvaluationConfig(segments=("yeer",)), "evaluation.segments: the table features has no column 'yeer'"),
        (EvaluationConfig(clusters=ClustersConfig(columns=("kind",))), "evaluation.clusters.columns: column 'kind'"),
    ],
)
def test_a_column_that_is_not_there_or_no_number_is_named(config, message):
    with pytest.raises(DataError, match=message):
        Columns.of(dataset_of(), config, Known, FEATURES)
