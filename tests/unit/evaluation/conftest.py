"""Produces evaluated rows of an invented market, for the tests of plots and report."""

import pytest
from report_pages import market


@pytest.fixture(name="market", scope="session")
def market_factory():
    return market
