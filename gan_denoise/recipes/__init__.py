"""Whole jobs from material to scores: the demo, and the systems that this project grew from."""
