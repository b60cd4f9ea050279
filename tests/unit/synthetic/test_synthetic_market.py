"""Consumes synthetic markets, checks that rows depend on seed and number alone, and that the truth told is true."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import stats

from assay.errors import ConfigError
from assay.synthetic import files
from assay.synthetic.config import MarketConfig, market_config
from assay.synthetic.dataset import dataset_tree, planted
from assay.synthetic.faults import NAMES, Faults
from assay.synthetic.layout import Layout
from assay.synthetic.process import PHI, Market, autoregressive
from assay.synthetic.streams import normals, uniforms

FULL = {"bad_share": 0.03, "leaks": ["target", "future"], "skew": 0.3, "missing": 0.05, "attributes": 3}
FREQUENCIES = ["hourly", "daily", "weekly", "monthly", "irregular"]


def market(rows=6_000, **options) -> MarketConfig:
    drift = options.pop("drift", ())
    return market_config({"rows": rows, "entities": max(1, rows // 100), **options}, drift=drift)


def frames(config: MarketConfig, start=0, stop=None) -> tuple[pl.DataFrame, pl.DataFrame]:
    return tuple(pl.from_arrow(table) for table in files.chunk(config, start, stop or config.rows))


def plain(table: pa.Table) -> pl.DataFrame:
    """With names of entities and categories, not their codes, which differ from chunk to chunk."""
    return pl.from_arrow(table).with_columns(pl.col(pl.Categorical).cast(pl.String))


@given(
    st.integers(0, 2**63 - 1), st.integers(0, 99), st.lists(st.integers(0, 500), min_size=2, max_size=2, unique=True)
)
def test_a_random_number_depends_on_seed_stream_and_its_own_number_alone(seed, stream, cut):
    start, stop = sorted(cut)
    whole = uniforms(seed, stream, 0, 500)
    assert (uniforms(seed, stream, start, stop) == whole[start:stop]).all()
    assert ((whole > 0) & (whole < 1)).all()
    assert (uniforms(seed, stream + 1, 0, 500) != whole).all()


def test_random_numbers_are_uniform_and_normal_and_stay_so_from_release_to_release():
    assert stats.kstest(uniforms(7, 1, 0, 100_000), "uniform").pvalue > 0.01
    assert stats.kstest(normals(7, 2, 0, 100_000), "norm").pvalue > 0.01
    assert abs(np.corrcoef(normals(7, 2, 0, 100_000), normals(8, 2, 0, 100_000))[0, 1]) < 0.01
    assert uniforms(7, 1, 5, 7) == pytest.approx([0.7172490982624807, 0.3826790907479535], abs=0)


@examples(max_examples=25, deadline=None)
@given(st.sampled_from(FREQUENCIES), st.sampled_from([{}, FULL]), st.lists(st.integers(1, 2_999), max_size=4))
def test_rows_are_the_same_however_they_are_cut(frequency, options, cuts):
    config = market(3_000, frequency=frequency, **options)
    edges = [0, *sorted(set(cuts)), config.rows]
    whole = files.chunk(config, 0, config.rows)
    parts = [files.chunk(config, a, b) for a, b in itertools.pairwise(edges)]
    for found, table in zip(zip(*parts, strict=True), whole, strict=True):
        assert pl.concat([plain(p) for p in found]).equals(plain(table))


def test_files_are_the_same_bytes_however_many_rows_are_made_at_once(tmp_path, monkeypatch):
    config = market(5_000, **FULL)
    for size in (5_000, 777):
        monkeypatch.setattr(files, "CHUNK_ROWS", size)
        for name in (files.SOURCE, files.TRUTH):
            (tmp_path / str(size) / name).mkdir(parents=True)
        assert files.write_block(config, tmp_path / str(size), 0, 0, 5_000).rows == 5_000
    one, other = (pq.read_table(tmp_path / size / "market") for size in ("5000", "777"))
    assert plain(one).equals(plain(other))
    assert sorted(p.name for p in (tmp_path / "777" / "market").iterdir()) == ["part-00000.parquet"]


@pytest.mark.parametrize("frequency", FREQUENCIES)
@pytest.mark.parametrize("skew", [0.0, 0.4])
def test_every_entity_has_its_rows_at_times_of_its_own(frequency, skew):
    config = market(4_003, frequency=frequency, skew=skew, entities=37)
    source, truth = frames(config)
    counts = source.group_by("entity").len().sort("len")["len"].to_list()
    assert (sum(counts), len(counts)) == (4_003, 37)
    light = counts[:-1] if skew else counts
    assert max(light) - min(light) <= 1
    assert counts[-1] == (1_601 if skew else max(light))
    assert source.select(pl.struct("entity", "observed_at").n_unique()).item() == 4_003
    assert source["entity"].cast(pl.String).is_sorted()
    assert source.select(pl.col("observed_at").diff().over("entity").min()).item().total_seconds() > 0
    start, end = Layout(config).bounds_us
    assert source["observed_at"].dt.timestamp("us").is_between(start, end, closed="left").all()
    assert source["observed_at"].max().year == 2024
    assert source.select("entity", "observed_at").equals(truth.select("entity", "observed_at"))


def test_prices_deviate_from_the_truth_by_exactly_the_stated_noise():
    config = market(60_000, missing=0.0)
    source, truth = frames(config)
    error = (source["price"].log() - truth["price_without_noise"].log()).to_numpy()
    z = error / truth["noise_sd"].to_numpy()
    assert stats.kstest(z, "norm").pvalue > 0.01
    for part in (truth["noise_sd"].qcut(5, labels=list("abcde")), source["kind"], source["promotion"]):
        labels = part.cast(pl.String).to_numpy()
        for label in set(labels):
            assert z[labels == label].std() == pytest.approx(1, abs=4 / np.sqrt(2 * (labels == label).sum()))
    assert truth["noise_sd"].max() > 3 * truth["noise_sd"].min()
    assert np.median(truth["noise_sd"]) == pytest.approx(0.06, rel=0.3)
    # Nothing is left that the row before could tell.
    same = source["entity"].cast(pl.String).to_numpy()[1:] == source["entity"].cast(pl.String).to_numpy()[:-1]
    assert abs(np.corrcoef(z[1:][same], z[:-1][same])[0, 1]) < 0.02


def test_deviations_follow_their_recursion_within_each_entity():
    rng = np.random.default_rng(3)
    position = np.concatenate([np.arange(n) for n in (1, 400, 2, 300)])
    shock = rng.normal(size=len(position))
    expected = np.zeros(len(shock))
    for i, p in enumerate(position):
        expected[i] = shock[i] + (PHI * expected[i - 1] if p else 0.0)
    assert autoregressive(shock, position) == pytest.approx(expected, abs=1e-12)


def test_drift_shows_from_its_date_on_and_as_planted():
    base = market(40_000, missing=0.0)
    drifted = market_config(
        {"rows": 40_000, "entities": 400, "missing": 0.0},
        drift=["level=0.25", "noise=2", "covariate=3"],
        drift_from="2024-12-01",
    )
    plain_rows, rows = Market(base).rows(0, 40_000), Market(drifted).rows(0, 40_000)
    late = rows.drifted
    first = np.datetime64("2024-12-01", "us").astype(np.int64)
    assert (late == (rows.time >= first)).all()
    assert 0.1 < late.mean() < 0.5
    assert (rows.log_price[~late] == plain_rows.log_price[~late]).all()
    assert rows.condition[late].mean() == pytest.approx(0.75, abs=0.01)
    assert plain_rows.condition[late].mean() == pytest.approx(0.5, abs=0.01)
    ratio = (rows.noise_sd / plain_rows.noise_sd)[late] * (0.5 + plain_rows.condition[late])
    assert ratio == pytest.approx(2 * (0.5 + rows.condition[late]))
    assert np.mean((rows.log_price - plain_rows.log_price)[late]) == pytest.approx(0.25 + 0.3 * 0.25, abs=0.01)
    for kind in ("level", "noise", "covariate"):
        truth = frames(market(40_000, drift=[kind]))[1]
        shown = {name for name in ("level", "noise", "covariate") if truth[f"drift_{name}"].any()}
        assert shown == {kind}
        assert truth[f"drift_{kind}"].mean() == pytest.approx(0.2, abs=0.02)


def test_leaks_tell_the_target_and_the_future():
    source, _ = frames(market(4_000, leaks=["target", "future"]))
    assert source.select((pl.col("assessed_value") / pl.col("price") - 1).abs().max()).item() < 0.01
    following = source.select(pl.col("price").shift(-1).over("entity")).to_series()
    assert source["following_price"].to_list() == following.to_list()
    assert not {"assessed_value", "following_price"} & set(frames(market(4_000))[0].columns)


def test_further_attributes_move_the_price_by_the_effects_that_are_told():
    config, base = (market(40_000, missing=0.0, attributes=count) for count in (5, 0))
    rows, plain_rows = (Market(c).rows(0, 40_000) for c in (config, base))
    effects = planted(config, [])["attributes"]
    assert list(effects) == [f"attribute_{i:03d}" for i in range(5)]
    assert rows.expected - plain_rows.expected == pytest.approx(rows.attributes.T @ list(effects.values()))
    assert np.cov(rows.attributes) == pytest.approx(np.eye(5), abs=0.03)
    assert stats.kstest(rows.attributes.ravel(), "norm").pvalue > 0.01
    for name in ("time", "size", "condition", "promotion", "sales", "noise_sd"):
        assert (getattr(rows, name) == getattr(plain_rows, name)).all()
    source, names = frames(config)[0], dataset_tree(config)["columns"]["numeric"]
    assert names == ["size", "age_years", "rooms", "condition", *effects]
    assert (rows.attributes == source.select(*effects).to_numpy().T).all()
    assert dataset_tree(base)["columns"]["numeric"] == names[:4]
    assert planted(base, [])["attributes"] == {}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25])
def test_each_rule_is_broken_equally_often_and_never_by_neighbours(share):
    config = market(20_000, bad_share=share, skew=0.2, entities=7_000)
    fault = Faults(config).of(0, config.rows)
    counts = np.bincount(fault[fault >= 0], minlength=len(NAMES))
    assert set(counts) == {int(share * 20_000) // len(NAMES)}
    assert (np.diff(np.flatnonzero(fault >= 0)) > 1).all()
    source, truth = frames(config)
    good = source.filter(truth["fault"].fill_null("duplicate") == "duplicate")
    assert (
        good.select(pl.struct("entity", "observed_at").is_duplicated().sum()).item()
        == 2 * counts[NAMES.index("duplicate")]
    )
    assert truth["fault"].null_count() == config.rows - counts.sum()


def test_missing_cells_are_as_many_as_asked_for_and_as_counted(tmp_path):
    config = market(20_000, missing=0.1)
    for name in (files.SOURCE, files.TRUTH):
        (tmp_path / name).mkdir()
    counted = files.write_block(config, tmp_path, 0, 0, 20_000).missing
    found = pl.read_parquet(tmp_path / "market")
    assert counted == {name: found[name].null_count() for name in ("size", "condition", "grade", "sales")}
    assert all(abs(count - 2_000) < 200 for count in counted.values())
    assert found.select(pl.exclude(counted)).null_count().sum_horizontal().item() == 0


@pytest.mark.parametrize(
    ("settings", "drift", "since", "message"),
    [
        ({"rows": 10, "entities": 20}, [], None, "--entities 20: more entities than rows"),
        ({"rows": 0}, [], None, "rows: input should be greater than or equal to 1"),
        ({"rows": 10**8, "entities": 1000}, [], None, "would reach back before 1900; ask for more --entities"),
        ({"rows": 10, "bad_share": 0.1}, [], None, "not one for each of 11 rules"),
        ({"rows": 1000, "entities": 900, "bad_share": 0.1}, [], None, "--bad-share: duplicates need"),
        ({"rows": 1000, "entities": 900, "skew": 0.5}, [], None, "--skew 0.5: of 1000 rows, the first entity would"),
        ({"rows": 1000, "end": "2099-01-01"}, [], None, "--end 2099-01-01: expected a date after"),
        ({"rows": 1000, "end": "soon"}, [], None, "--end soon: not a date"),
        ({"rows": 1000}, ["leval"], None, "there is no drift 'leval'; did you mean level?"),
        ({"rows": 1000}, ["level=much"], None, "'much' is not a number; write it as level=0.2"),
        ({"rows": 1000}, ["noise=-1"], None, "drift.noise: input should be greater than 0"),
        ({"rows": 1000}, [], "2024-01-01", "--drift-from 2024-01-01: nothing changes"),
        ({"rows": 1000, "leaks": ["past"]}, [], None, "leaks[0]: input should be 'target' or 'future'"),
        ({"rows": 1000, "row": 1}, [], None, "unknown key row; did you mean rows?"),
    ],
)
def test_a_market_that_cannot_be_is_refused_in_one_line(settings, drift, since, message):
    def lay_out():
        config = market_config(settings, drift=drift, drift_from=since)
        return Layout(config).bounds_us, Faults(config).each

    with pytest.raises(ConfigError) as refused:
        lay_out()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
