"""Nothing -> raw files of an invented market whose true values are known."""
