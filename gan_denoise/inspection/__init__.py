"""Recordings looked at before training: faults of files and pairs, and what a corpus is like."""
