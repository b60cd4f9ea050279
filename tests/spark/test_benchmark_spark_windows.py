"""Consumes a small panel, checks that the contenders of `benchmark features` that are Spark alone make our columns."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from test_benchmark_features import features, write_panel

from benchmarks import _panel

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def windows(spark, tmp_path_factory):
    """A benchmark's folder, and where Spark's windows wrote the features."""
    data = write_panel(tmp_path_factory.mktemp("build") / "features-6400")
    return data, features.run_spark_windows((spark, data, _panel.output_folder(data, "spark_windows")))


def test_spark_windows_make_the_figures_that_we_make(windows):
    data, written = windows
    assert features.outputs(written) == {"rows": 6_400}
    assert features.differences(data, ["assay", "spark_windows"]) == {"spark_windows": pytest.approx(0, abs=1e-5)}


def test_a_copy_is_what_it_copies(spark, windows):
    data, made = windows
    with pytest.raises(SystemExit, match="let assay run before it"):
        features.prepare_copy(data, "spark_copy")
    written = features.run_spark_copy((spark, made, _panel.output_folder(data, "spark_copy")))
    assert features.outputs(written) == {"rows": 6_400}
    assert features.differences(data, ["spark_windows", "spark_copy"]) == {"spark_copy": 0.0}
