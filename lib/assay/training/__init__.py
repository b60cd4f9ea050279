"""Features -> model."""
