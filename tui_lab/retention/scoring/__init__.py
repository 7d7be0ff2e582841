"""Scores items of a suite by log-likelihood or by generation."""
