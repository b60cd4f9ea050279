"""Consumes a checkout and the environment that it runs in, produces a folder that runs where neither is."""
