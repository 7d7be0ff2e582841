"""Builders of the bundled data sets."""
