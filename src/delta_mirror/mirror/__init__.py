"""The mirror: one SQLite file."""
