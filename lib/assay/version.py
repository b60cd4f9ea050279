"""Produces the version of the code: part of every identity and every MLflow record."""

__version__ = "0.1.0"
