"""Suites of items that measure what a model knows: bundled, standard, local and the user's own."""
