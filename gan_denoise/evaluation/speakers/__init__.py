"""Comparison of a model's improvement between groups of speakers: tests, summary, report."""
