"""Trials of a study in threads of this process, in place of processes that import TensorFlow."""

from __future__ import annotations

import multiprocessing
import threading

from gan_denoise.tuning.trial import run_connected


class Trial(threading.Thread):
    """What a study takes for the process of a trial."""

    def kill(self):
        """Do nothing: it has ended, or the test fails."""

    interrupt = kill


def in_a_thread(job, train=None):
    """Do a trial, as `gan_denoise.tuning.trial.launch`."""
    ours, theirs = multiprocessing.Pipe()
    thread = Trial(target=run_connected, args=(job, theirs, train))
    thread.start()
    return thread, ours
