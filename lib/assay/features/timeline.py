"""Consumes dated rows of whole keys, produces them condensed, and in order, so that the past of each time is a slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
