"""Consumes predictions and outcomes, produces metrics, segment tables, plots and the report."""
