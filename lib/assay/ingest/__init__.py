"""Raw files -> observations, quarantine, quality."""
