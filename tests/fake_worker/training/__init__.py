"""A run process without a model: it holds the lock and writes a real event log, as the real one does."""
