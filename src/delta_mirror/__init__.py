"""delta-mirror: an exact, queryable copy of a service's records in one SQLite file."""

__version__ = "0.1.0"
