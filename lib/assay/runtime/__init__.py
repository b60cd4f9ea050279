"""What every job stands on: session, tables, tracking, job shell, progress."""
