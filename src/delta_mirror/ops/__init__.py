"""EDGE: what stands around a run on a machine that is left alone: files that others pick up, a health check that waits."""
