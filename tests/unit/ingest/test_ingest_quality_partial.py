"""Consumes random rows with every fault, checks counts against pandas, and that partials add up however cut."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from quality_harness import ALL, NOW, by_month, checked, clean_rows, measured_whole, run_config, write_csv

from assay.ingest.quality_metrics import measures_of
from assay.ingest.quality_partial import Sampling, measure, merge, unpack
from assay.ingest.source import SourcePart

CHANGES = ["", "much", "inf", "-4", "5000", "2031-05-05", "gestern", "z"]


def messy_rows(random, rows=400):
    """Clean rows of which some are repeated, moved, and changed in one cell."""
    found = clean_rows(shops=5, days=90)[:rows]
    for _ in range(rows // 4):
        place = int(random.integers(len(found)))
        change = int(random.integers(4))
        if change == 0:
            found.insert(int(random.integers(len(found))), dict(found[place]))
        elif change == 1:
            found.insert(int(random.integers(len(found))), found.pop(place))
        else:
            name = str(random.choice(["day", "shop", "sales", "low", "high", "kind", "town"]))
            found[place] = found[place] | {name: str(random.choice(CHANGES))}
    return found


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return run_config(tmp_path_factory.mktemp("quality"))


@pytest.fixture(scope="module", params=range(4))
def messy(request, config, tmp_path_factory):
    """(rows as pandas read them, all as text; the same rows checked)."""
    rows = messy_rows(np.random.default_rng(request.param))
    part = write_csv(tmp_path_factory.mktemp("messy") / "shops.csv", rows)
    return pd.DataFrame(rows).replace("", None), checked(config.dataset, part)


def test_every_share_equals_pandas(messy, config):
    raw, frame = messy
    found = measures_of(measured_whole(frame, config.dataset), config.dataset, config.profile.quality, NOW)
    time = pd.to_datetime(raw["day"], errors="coerce", format="%Y-%m-%d", utc=True)
    numbers = {n: pd.to_numeric(raw[n], errors="coerce") for n in ("sales", "low", "high")}
    filled = raw.drop(columns="day").notna()
    wrong = {n: raw[n].notna() & numbers[n].isna() for n in numbers}
    finite = {n: numbers[n][np.isfinite(numbers[n])] for n in numbers}
    keyed = raw.assign(time=time)[time.notna() & raw["shop"].notna()]
    typed = keyed.assign(**{n: numbers[n] for n in numbers}).drop(columns="day")
    tukey = {n: finite[n].quantile([0.25, 0.75]).to_list() for n in numbers}
    far = {
        n: ((finite[n] < low - 3 * (high - low)) | (finite[n] > high + 3 * (high - low)))
        for n, (low, high) in tukey.items()
    }
    outside = numbers["low"][np.isfinite(numbers["low"])].abs() > 1000
    infinite = sum(int(np.isinf(numbers[n]).sum()) for n in numbers)
    both = numbers["low"].notna() & numbers["high"].notna()
    bad_target = wrong["sales"] | np.isinf(numbers["sales"]) | (numbers["sales"] <= 0)
    kinds = raw["kind"].dropna()
    expected = {
        "completeness": filled.to_numpy().mean(),
        "duplicate_rows": typed.duplicated().sum() / len(keyed),
        "duplicate_keys": keyed.duplicated(["shop", "time"]).sum() / len(keyed),
        "cross_column": (numbers["low"] <= numbers["high"])[both].mean(),
        "type_validity": 1 - sum(int(w.sum()) for w in wrong.values()) / int(filled.to_numpy().sum()),
        "range_validity": 1 - (outside.sum() + infinite) / sum(n.notna().sum() for n in numbers.values()),
        "category_validity": kinds.isin(["a", "b"]).mean(),
        "date_validity": time.notna().mean(),
        "future_dates": (time > pd.Timestamp(NOW)).sum() / time.notna().sum(),
        "outlier_share": sum(int(f.sum()) for f in far.values()) / sum(len(f) for f in far.values()),
        "target_validity": 1 - bad_target.sum() / raw["sales"].notna().sum(),
    }
    for name, share in expected.items():
        assert found.overall(name).value == pytest.approx(share, abs=1e-12), name
    columns = {m.column: m.value for m in found.columns("completeness")}
    assert columns == pytest.approx({name: filled[name].mean() for name in filled})
    previous = keyed.groupby("shop")["time"].shift()
    late = (keyed["time"] < previous).sum() / previous.notna().sum()
    assert found.overall("ordering").value == pytest.approx(1 - late)


def equal(one, other):
    for name, frame in one.frames().items():
        assert_frame_equal(frame, other.frames()[name], check_exact=name != "days", rel_tol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 3),
    groups=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    rows=st.sampled_from([10**6, 150, 37]),
    moments=st.sampled_from([10**6, 300, 120, 5]),
)
def test_any_cut_by_month_merges_to_the_same(config, tmp_path_factory, seed, groups, rows, moments):
    part = write_csv(tmp_path_factory.mktemp("cut") / "shops.csv", messy_rows(np.random.default_rng(seed), rows=250))
    frame = checked(config.dataset, part)
    sampling = Sampling(rows, moments)
    whole = measured_whole(frame, config.dataset, sampling)
    equal(whole, by_month(frame, config.dataset, groups, sampling))


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=6), order=st.randoms(use_true_random=False), few=st.booleans())
def test_any_cut_at_all_merges_to_the_same_but_for_duplicates(messy, config, cuts, order, few):
    _, frame = messy
    sampling = Sampling(60, 200) if few else ALL
    ends = sorted({0, frame.height, *(c for c in cuts if c < frame.height)})
    parts = [measure(frame.slice(a, b - a), config.dataset, NOW, sampling) for a, b in itertools.pairwise(ends)]
    order.shuffle(parts)
    half = len(parts) // 2
    merged = [merge(some, sampling) for some in (parts[:half], parts[half:]) if some]
    without = pl.col("measure").str.starts_with("duplicate")

    def seen(partial):
        return dataclasses.replace(partial, counts=partial.counts.filter(~without))

    equal(seen(measured_whole(frame, config.dataset, sampling)), seen(merge(merged, sampling)))


def test_a_sample_is_uniform_whole_series_and_no_more_than_asked(messy, config):
    _, frame = messy
    part = measured_whole(frame, config.dataset, Sampling(50, 250))
    assert part.sample.height == 50
    assert 0 < part.series.height <= 250
    everything = measured_whole(frame, config.dataset).series
    for entity, rows in part.series.group_by("entity").len().iter_rows():
        assert rows == everything.filter(pl.col("entity") == entity).height
    assert part.names.height == part.series["entity"].n_unique()
    thinned = measured_whole(frame, config.dataset, Sampling(50, 10**6, row_share=0.5))
    assert_frame_equal(thinned.sample, part.sample)  # thinning before changes nothing while enough is left


def test_samples_of_many_rows_are_fair(config, tmp_path):
    rows = [row | {"sales": str(index + 1)} for index, row in enumerate(clean_rows(shops=60, days=200))]
    frame = checked(config.dataset, write_csv(tmp_path / "shops.csv", rows))
    sample = measured_whole(frame, config.dataset, Sampling(2_000, 10**6)).sample
    places = sample["sales"].to_numpy() / len(rows)
    assert abs(places.mean() - 0.5) < 4 / np.sqrt(12 * len(places))
    assert np.histogram(places, bins=10, range=(0, 1))[0].min() > 140


def test_partials_survive_the_way_to_the_driver(messy, config):
    import pyarrow as pa

    _, frame = messy
    parts = [measure(half, config.dataset, NOW, ALL) for half in (frame.head(150), frame.tail(-150))]
    packed = [item for part in parts for item in part.packed()]
    order = np.random.default_rng(3).permutation(len(packed))
    names, payloads = zip(*(packed[i] for i in order), strict=True)
    rows = pa.table({"part": list(names), "payload": list(payloads)})
    equal(merge(parts, ALL), merge(list(unpack(rows, "part", "payload")), ALL))


def test_hashes_are_the_same_in_every_process(config, tmp_path):
    frame = checked(config.dataset, write_csv(tmp_path / "shops.csv", clean_rows()))
    frame.write_parquet(tmp_path / "rows.parquet")
    code = (
        "import sys, polars as pl; from pathlib import Path; from assay.config import load_run;"
        "from assay.ingest.quality_partial import Sampling, measure; import datetime as dt;"
        "c = load_run(dataset=Path(sys.argv[1]));"
        "now = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc);"
        "p = measure(pl.read_parquet(sys.argv[2]), c.dataset, now, Sampling(60, 200));"
        "print(p.sample['row hash'].to_list(), p.names['entity'].to_list())"
    )
    path = config.dataset_folder / "shops.yml"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / "rows.parquet")],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "12"},
    )
    here = measured_whole(frame, config.dataset, Sampling(60, 200))
    assert done.stdout.strip() == f"{here.sample['row hash'].to_list()} {here.names['entity'].to_list()}"


def test_columns_may_have_names_that_are_used_inside(tmp_path):
    names = ["entity", "name", "hash", "file", "row", "value", "total", "day"]
    columns, targets = {"numeric": names[2:7]}, [{"name": "price"}]
    config = run_config(tmp_path, entity=names[:2], targets=targets, columns=columns, bounds={}, quality={})
    rows = [dict.fromkeys(names[2:7], str(n)) | {"price": str(n + 1)} for n in range(40)]
    rows = [r | {"entity": str(n % 2), "name": "x", "day": f"2020-01-{n // 2 + 1:02}"} for n, r in enumerate(rows)]
    pd.DataFrame(rows).to_csv(tmp_path / "named.csv", index=False)
    part = SourcePart(str(tmp_path / "named.csv"), "named.csv", "csv")
    measured = measured_whole(checked(config.dataset, part), config.dataset)
    assert measured.series.height == measured.sample.height == 40
    found = measures_of(measured, config.dataset, config.profile.quality, NOW)
    assert found.overall("completeness").value == 1
    assert {m.column for m in found.columns("completeness")} == {*names, "price"} - {"day"}
