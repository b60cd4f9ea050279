"""Consumes features, predictions and outcomes over time, produces what is wrong with a model, and tells who asked."""
