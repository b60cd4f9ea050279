"""Consumes a number of days and a seed, produces a season: the synthetic market played through the real jobs."""
