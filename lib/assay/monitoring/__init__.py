"""Predictions, features and outcomes over time -> what is wrong with a model, and who is told of it."""
