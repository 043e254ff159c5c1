"""Excerpts of a recording before and after, and of what was removed, in a player for the browser.

A window of a recording becomes three FLAC files and a player with three spectrograms on one scale
of colours. FLAC, as what a lossy codec adds would be heard in what was removed.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from gan_denoise.audio import Reader, resample
from gan_denoise.pages.jobs import DONE, Job
from gan_denoise.pages.settings import ServeError
from gan_denoise.pages.templates import render
from gan_denoise.reports.players import Track, spectrogram_uris

WINDOW_SECONDS = 60  # of a preview
KINDS = ("before", "after", "removed")
PLAYER = "player.html"
HIGHEST_RATE = 48000  # Hz that every browser plays
KEPT = 3  # windows of a job


def count_windows(job: Job) -> int:
    """Return the number of windows of a finished job, at least 1."""
    seconds = job.result.seconds if job.result is not None else 0.0
    return max(1, -int(-seconds // WINDOW_SECONDS))


def preview_folder(job: Job, window: int) -> Path:
    """Return the folder with the files of one window, which is made where it is not there.

    Args:
        job: A finished job.
        window: Its number, counted from 0.

    Returns:
        A folder with `before.flac`, `after.flac`, `removed.flac` and the player, `player.html`.

    Raises:
        ServeError: When the job has not finished, or there is no such window.
        AudioError: When a file cannot be read again.
    """
    if job.state != DONE:
        raise ServeError("there is nothing to hear yet", "wait until it is done", 409)
    if not 0 <= window < count_windows(job):
        raise ServeError(f"there is no part {window + 1} of {count_windows(job)}", status=404)
    folder = job.folder / f"preview-{window}"
    if folder.is_dir():
        return folder
    building = Path(tempfile.mkdtemp(prefix="building-", dir=job.folder))
    _write(job, window, building)
    try:
        building.rename(folder)
    except OSError:  # another request was first
        shutil.rmtree(building)
    made = sorted(job.folder.glob("preview-*"), key=lambda path: path.stat().st_mtime)
    for old in made[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _write(job: Job, window: int, folder: Path) -> None:
    files = dict(zip(KINDS, (job.upload.path, job.target, job.removed), strict=True))
    signals = {}
    for kind, path in files.items():
        samples, rate = _excerpt(path, window * WINDOW_SECONDS)
        soundfile.write(folder / f"{kind}.flac", samples.T, rate, subtype="PCM_16")
        mel_rate = job.enhancer.mel.sample_rate
        signals[kind] = resample(samples.mean(axis=0), rate, mel_rate)
    pictures = spectrogram_uris(signals, mel_rate, job.enhancer.mel)
    place = f"/api/jobs/{job.id}/previews/{window}"
    tracks = [Track(kind, f"{place}/{kind}.flac", pictures[kind]) for kind in KINDS]
    text = render("preview.html.j2", tracks=tracks, label=job.upload.name,
                  ident=f"player-{job.id}-{window}")
    (folder / PLAYER).write_text(text, encoding="utf-8")


def _excerpt(path: Path, start: float) -> tuple[np.ndarray, int]:
    """Return a window of a file, `[channels, samples]` of one or two channels, and its rate."""
    parts = []
    with Reader(path) as reader:
        rate = reader.info.sample_rate
        missing = WINDOW_SECONDS * rate
        for block in reader.blocks(rate, start=round(start * rate)):
            if block.shape[0] > 2:
                block = block.mean(axis=0, keepdims=True)
            parts.append(block[:, :missing])
            missing -= parts[-1].shape[1]
            if missing <= 0:
                break
    samples = np.concatenate(parts, axis=1) if parts else np.zeros((1, rate), np.float32)
    if rate > HIGHEST_RATE:
        samples, rate = resample(samples, rate, HIGHEST_RATE), HIGHEST_RATE
    return samples, rate
