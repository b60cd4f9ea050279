"""Observations -> features."""
