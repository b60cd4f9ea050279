"""Consumes a small panel, checks that Spark's own windows, a contender of `benchmark features`, make our columns."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from test_benchmark_features import features, write_panel

from benchmarks import _panel

pytestmark = pytest.mark.spark


def test_spark_windows_make_the_figures_that_we_make(spark, tmp_path):
    data = write_panel(tmp_path / "features-6400")
    written = features.run_spark_windows((spark, data, _panel.output_folder(data, "spark_windows")))
    assert features.outputs(written) == {"rows": 6_400}
    assert features.differences(data, ["assay", "spark_windows"]) == {"spark_windows": pytest.approx(0, abs=1e-5)}
