"""Features of entities -> segments of similar ones, and their profiles."""
