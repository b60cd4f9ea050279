"""Registered models -> the registry as people use it."""
