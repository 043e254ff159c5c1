"""Checks of datasets for faults before training, and surveys of recordings by their acoustics."""
