"""Consumes figures and words, produces pages that people read: the look, the plots' canvas, formats of numbers."""
