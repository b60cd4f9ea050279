"""What unit tests share: ranks that run as threads of this process, in place of a barrier stage."""

from __future__ import annotations

import pytest

from thread_ranks import Ranks


@pytest.fixture(name="ranks", scope="session")
def ranks_factory():
    return Ranks
