"""Training: the loop over batches, losses, the adversary, checkpoints, the monitor, trackers."""
