"""Consumes registered models, produces who serves: the registry as people use it, and experiments between models."""
