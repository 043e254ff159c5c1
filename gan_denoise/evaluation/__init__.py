"""Evaluation of models: scores of each file and system, their means, and groups of speakers."""
