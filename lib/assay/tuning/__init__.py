"""Features -> the best parameters of an engine, by trials that executors run side by side."""
