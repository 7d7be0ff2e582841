"""Evaluation jobs: suites on demand, the adapter strength sweep and the cache of scores."""
