"""Consumes a data file, produces a dataset YAML: what its columns hold, what they may be for, and why."""
