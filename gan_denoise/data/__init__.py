"""Training material: recordings, pairs, mixtures, features, from files or made up.

`datasets` turns the settings of `data` into batches that are a function of (seed, step).
"""
