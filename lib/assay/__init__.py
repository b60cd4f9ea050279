"""assay: distributed Spark ML jobs that say what things are worth, and how sure they are."""

__version__ = "0.1.0"
