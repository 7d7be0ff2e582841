"""Builds the bundled pocket model and the bundled data sets. Not part of the wheel."""
