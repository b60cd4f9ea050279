"""Consumes features, predictions and outcomes over time, produces drift, health, alerts and the retrain queue."""
