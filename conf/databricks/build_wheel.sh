#!/usr/bin/env bash
# The wheel as Databricks installs it, in dist/databricks: without pyspark and delta-spark, of which the runtime has
# builds of its own that the ones of a package index would hide.
set -euo pipefail
cd "$(dirname "$0")/../.."
rm -rf build/databricks dist/databricks
mkdir -p build/databricks
cp -r lib conf jobs README.md LICENSE build/databricks
sed -E '/^  "(pyspark|delta-spark)[=<>]/d' pyproject.toml >build/databricks/pyproject.toml
"${PYTHON:-python3}" -m pip wheel --quiet --no-deps --wheel-dir dist/databricks build/databricks
