"""Consumes prices, checks technical indicators against TA-Lib on real ones and against plain loops on any."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import statistics

import numpy as np
import polars as pl
import pytest
from feature_harness import features_of, observations, settings_of, utc, widest_plan
from feature_oracle import delay, differs, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features.condensed import condense
from assay.features.plan import FeaturePlan, HistoryOf
from assay.features.recurrence import recurrence
from assay.features.technical import Technical
from assay.features.timeline import Timeline, days_us

talib = pytest.importorskip("talib")  # it has no wheels for Python 3.10
START = utc("2020-01-20")
PREFIX = "price__own__"


def plan_with(**changes) -> FeaturePlan:
    """A plan for technical indicators of `price`, in the field's own periods unless changed."""
    chosen = {"technical": ("price",), "technical_periods": (14,), "macd": (12, 26, 9), "bollinger": (20, 2.0)}
    return widest_plan(widest={**chosen, **changes})


def indicators(frame: pl.DataFrame, plan: FeaturePlan, *, delay_days: float = 0.0) -> pl.DataFrame:
    """Doubles for each row of a frame with thing, time and price, in order of thing and time."""
    timeline = Timeline(condense(frame, ["thing"], ["price"]), ["thing"], oldest_us=plan.oldest_us)
    found = Technical().compute(timeline, plan, "price", "own", days_us(delay_days))
    named = {name.removeprefix(PREFIX): numbers for name, numbers in found.items()}
    assert {PREFIX + name for name in named} == {f.name for f in Technical().features(plan, "price", "own")}
    return pl.DataFrame(named)


def of_talib(prices: np.ndarray) -> dict[str, np.ndarray]:
    """TA-Lib's figures, each shifted by one bar: what was known before it."""
    upper, _, lower = talib.BBANDS(prices, 20, 2, 2)
    line, signal, histogram = talib.MACD(prices, 12, 26, 9)
    found = {
        "sma_14": talib.SMA(prices, 14),
        "ema_14": talib.EMA(prices, 14),
        "rsi_14": talib.RSI(prices, 14),
        "momentum_14": talib.MOM(prices, 14),
        "roc_14": talib.ROCP(prices, 14),
        "macd": line,
        "macd_signal": signal,
        "macd_histogram": histogram,
        "bollinger_upper": upper,
        "bollinger_lower": lower,
    }
    return {name: np.append(np.nan, numbers[:-1]) for name, numbers in found.items()}


@pytest.mark.realdata
def test_on_real_prices_they_are_talibs(real_data):
    prices = (
        pl.read_parquet(real_data / "sp500_daily.parquet", columns=["Name", "Date", "Adj Close"])
        .select(
            thing="Name",
            time=pl.col("Date").str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC"),
            price="Adj Close",
        )
        .unique(["thing", "time"], keep="last")
        .filter(pl.col("thing").is_in(["AAPL", "AMZN", "GE", "XOM", "ZTS", "A"]), pl.col("price") > 0)
        .sort("thing", "time")
    )
    found = pl.concat([prices, indicators(prices, plan_with())], how="horizontal")
    for part in found.partition_by("thing"):
        assert part.height > 1000
        size = part["price"].max()
        for name, expected in of_talib(part["price"].to_numpy()).items():
            np.testing.assert_allclose(part[name].to_numpy(), expected, rtol=1e-9, atol=1e-12 * size, err_msg=name)


def test_the_share_of_an_average_and_the_bands_are_what_their_names_say():
    prices = np.exp(np.random.default_rng(3).normal(0, 0.02, 400).cumsum()) * 50
    times = [START + dt.timedelta(days=i) for i in range(len(prices))]
    found = indicators(pl.DataFrame({"thing": ["x"] * len(prices), "time": times, "price": prices}), plan_with())
    last = np.append(np.nan, prices[:-1])
    returns = np.diff(np.log(prices), prepend=np.nan)
    volatility = pl.Series(returns).rolling_std(14).shift(1)
    volatility[14] = None  # the first bar has no return
    upper, lower = found["bollinger_upper"].to_numpy(), found["bollinger_lower"].to_numpy()
    expected = {
        "to_sma_14": last / found["sma_14"].to_numpy() - 1,
        "to_ema_14": last / found["ema_14"].to_numpy() - 1,
        "macd_relative": found["macd"].to_numpy() / last,
        "macd_histogram_relative": found["macd_histogram"].to_numpy() / last,
        "bollinger_percent": (last - lower) / (upper - lower),
        "bollinger_width": (upper - lower) / ((upper + lower) / 2),
        "volatility_14": volatility.to_numpy(),
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(found[name].to_numpy(), numbers, rtol=1e-9, atol=1e-12, err_msg=name)


def by_loops(prices: list[float]) -> dict[str, float | None]:
    """Indicators of periods 2, MACD (2, 3, 2) and Bollinger (3, 2.0), by the book."""

    def exponential(values: list[float], period: int) -> list[float]:
        found = [statistics.fmean(values[:period])]
        for value in values[period:]:
            found.append(found[-1] + 2 / (period + 1) * (value - found[-1]))
        return found

    n = len(prices)
    found: dict[str, float | None] = {"sma_2": statistics.fmean(prices[-2:]) if n >= 2 else None}
    found["ema_2"] = exponential(prices, 2)[-1] if n >= 2 else None
    found["momentum_2"] = prices[-1] - prices[-3] if n >= 3 else None
    moves = [b - a for a, b in itertools.pairwise(prices)]
    found["rsi_2"] = None
    if len(moves) >= 2:
        up, down = (sum(max(sign * move, 0) for move in moves[:2]) / 2 for sign in (1, -1))
        for move in moves[2:]:
            up, down = (up + max(move, 0)) / 2, (down + max(-move, 0)) / 2
        found["rsi_2"] = 100 * up / (up + down) if up + down else None
    if n >= 4:
        slow = exponential(prices, 3)
        fast = exponential(prices[1:], 2)
        lines = [a - b for a, b in zip(fast, slow, strict=True)]
        found |= {"macd": lines[-1], "macd_signal": exponential(lines, 2)[-1]}
    else:
        found |= {"macd": None, "macd_signal": None}
    found["bollinger_upper"] = statistics.fmean(prices[-3:]) + 2 * statistics.pstdev(prices[-3:]) if n >= 3 else None
    return found


moments = st.integers(0, 60).map(lambda hours: START + dt.timedelta(hours=6 * hours))
numbers = st.one_of(st.none(), st.sampled_from([0.0, -2.0, 3.0, 1e6]), st.floats(0.01, 1e4))


@settings(deadline=None, max_examples=80)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"thing": st.sampled_from("xyz"), "time": moments, "price": numbers}), min_size=1
    ),
    delay_days=st.sampled_from([0.0, 0.25, 2.5]),
    oldest=st.sampled_from([None, 3]),
)
def test_on_any_bars_they_are_those_of_plain_loops(rows, delay_days, oldest):
    """Several rows at one time, gaps, other keys, late values, and old ones that are forgotten."""
    plan = plan_with(technical_periods=(2,), macd=(2, 3, 2), bollinger=(3, 2.0), max_history_days=oldest)
    found = indicators(pl.DataFrame(rows, schema_overrides={"price": pl.Float64}), plan, delay_days=delay_days)
    cells = sorted({(row["thing"], row["time"]) for row in rows})
    for (thing, time), row in zip(cells, found.to_dicts(), strict=True):
        past = seen(rows, by=["thing"], value="price", delay_days=delay_days, key=(thing,), at=time)
        since = time - delay(delay_days) - dt.timedelta(days=oldest or 10_000)
        bars: dict[dt.datetime, list[float]] = {}
        for at, value in sorted(past):
            if at >= since:
                bars.setdefault(at, []).append(value)
        prices = [statistics.fmean(values) for values in bars.values()]
        scale = max((abs(p) for p in prices), default=1.0)
        for name, expected in by_loops(prices).items() if prices else ():
            one = None if math.isnan(row[name]) else row[name]
            if name == "rsi_2" and one is not None and expected is not None:
                assert abs(one - expected) < 1e-3
            elif name == "bollinger_upper" and one is not None:
                assert abs(one - expected) <= 1e-6 * scale
            else:
                assert not differs(one, expected, scale=scale), (name, one, expected, prices)
        assert prices or all(math.isnan(value) for value in row.values())


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    states=st.sampled_from([1, 2, 3]),
    decay=st.sampled_from([0.0, 0.3, 0.9, 0.97]),
    seed=st.integers(0, 999),
)
def test_a_recurrence_is_what_its_steps_give_and_depends_on_nothing_else(lengths, states, decay, seed):
    chance = np.random.default_rng(seed)
    matrix = np.tril(chance.normal(0, 0.1, (states, states)), -1) + decay * np.eye(states)
    series = chance.normal(0, 1, (states, sum(lengths)))
    ends = np.cumsum(lengths)
    last = chance.integers(0, ends[-1], 30)
    first = last - chance.integers(0, 1 << 30, 30) % (last - (ends - lengths)[np.searchsorted(ends, last, "right")] + 1)
    start = chance.normal(0, 1, (states, 30))
    drivers = [(numbers, 0.5) for numbers in series]
    found = recurrence(matrix, drivers, start, first, last)
    for row in range(30):
        state = start[:, row]
        for at in range(first[row] + 1, last[row] + 1):
            state = matrix @ state + 0.5 * series[:, at]
        np.testing.assert_allclose(found[:, row], state, rtol=1e-9, atol=1e-12)
        own = slice(first[row], last[row] + 1)
        alone = recurrence(
            matrix,
            [(numbers[own], 0.5) for numbers in series],
            start[:, [row]],
            np.array([0]),
            np.array([last[row] - first[row]]),
        )
        assert alone[:, 0].tolist() == found[:, row].tolist()


def test_a_keys_figures_do_not_depend_on_other_keys_nor_on_how_rows_are_dealt():
    chance = np.random.default_rng(5)
    rows = [
        {"row_id": i, "thing": f"t{i % 5}", "place": f"p{i % 2}", "time": START + dt.timedelta(hours=i), "size": 1.0}
        | {"price": float(chance.lognormal(3, 1)), "sales": float(chance.normal(0, 10.0 ** (i % 7)))}
        for i in range(300)
    ]
    plan = widest_plan()
    frame = observations(rows, plan)
    whole = features_of(frame, plan)
    dealt = features_of(frame, plan, dealt=[int(n) for n in chance.integers(0, 4, frame.height)], batch_rows=7)
    assert whole.equals(dealt)
    own = [f.name for f in Technical().features(plan, "price", "own")]
    alone = features_of(frame.filter(pl.col("thing") == "t3"), plan)
    assert alone.select(own).equals(whole.filter(pl.col("thing") == "t3").select(own))


def test_prices_at_or_below_0_leave_ratios_and_logarithms_null():
    values = [-1.0, 0.0, 2.0, 3.0, 4.0, 5.0]
    rows = [
        {"row_id": i, "thing": "x", "place": "p", "time": START + dt.timedelta(days=i), "price": v, "sales": v}
        for i, v in enumerate(values)
    ]
    plan = plan_with(technical_periods=(2,))
    found = features_of(observations(rows, plan), plan)
    assert found[f"{PREFIX}momentum_2"].to_list() == [None, None, None, 3.0, 3.0, 2.0]
    assert found[f"{PREFIX}roc_2"].to_list() == [None, None, None, None, None, 1.0]
    known = found[f"{PREFIX}volatility_2"].is_not_null().to_list()
    assert known == [False, False, False, False, False, True]


def test_what_never_moves_has_bands_of_no_width_and_no_strength():
    rows = [
        {"row_id": i, "thing": "x", "place": "p", "time": START + dt.timedelta(days=i), "price": 7.0, "sales": 7.0}
        for i in range(40)
    ]
    plan = plan_with()
    last = features_of(observations(rows, plan), plan).row(-1, named=True)
    assert last[f"{PREFIX}rsi_14"] is None
    assert last[f"{PREFIX}bollinger_percent"] is None
    assert (last[f"{PREFIX}bollinger_width"], last[f"{PREFIX}volatility_14"]) == (0.0, 0.0)
    assert (last[f"{PREFIX}bollinger_upper"], last[f"{PREFIX}macd"]) == (7.0, pytest.approx(0, abs=1e-12))


def test_only_chosen_columns_have_indicators_and_groups_only_where_asked():
    plan = widest_plan(widest={"technical": ("price",), "group_families": ()})
    assert not Technical().features(plan, "sales", "own")
    assert not Technical().features(plan, "price", "place")
    asked = widest_plan(widest={"technical": ("price",)}, history=(HistoryOf("price", 0.0),))
    assert Technical().features(asked, "price", "place")[0].family == "group_technical"
    assert settings_of().technical == ()
