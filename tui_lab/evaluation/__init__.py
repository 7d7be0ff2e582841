"""Evaluation jobs: suites on demand, the strength sweep of a run's adapter, and the cache of scores."""
