"""The charts and clips of a run, as the training tab shows them while it goes on."""

from __future__ import annotations

import base64
import io

from gan_denoise.metrics.baselines import BEST_GAIN, NOISY
from gan_denoise.pages.settings import ServeError
from gan_denoise.reports.players import Track
from gan_denoise.training.monitor import GAIN_SUFFIX, NOISY_SUFFIX
from gan_denoise.training.run_events import RunEvents
from gan_denoise.training.tensorboard_layout import METRICS

POINTS = 400  # of a curve, at most


def charts(events: RunEvents, metric: str) -> list[dict[str, object]]:
    """Return the charts of a run that have anything to show.

    Args:
        events: What the run has logged.
        metric: The validation metric that comes first: by which the best state is chosen.

    Returns:
        For each chart its `title` and `series`: `label`, and `points`, `[step, value]` in turn.
    """
    validations = sorted((name for name in METRICS if f"valid/{name}" in events.tags),
                         key=lambda name: name != metric)
    wanted = [(f"Validation: {METRICS[name]}",
              {"model": f"valid/{name}", NOISY: f"valid/{name}{NOISY_SUFFIX}",
               BEST_GAIN: f"valid/{name}{GAIN_SUFFIX}"}) for name in validations]
    wanted.insert(0, ("Loss of the generator", {"weighted sum": "loss/total"}))
    wanted.insert(2, ("What the discriminator makes of", {
        "clean speech": "discriminator/real", "true score": "discriminator/score",
        "estimates": "discriminator/fake"}))
    wanted.append(("Seconds of audio trained a second", {
        "speed": "speed/audio_seconds_per_second"}))
    drawn: list[dict[str, object]] = []
    for title, curves in wanted:
        series = [{"label": label, "points": _points(events, tag)}
                  for label, tag in curves.items() if tag in events.tags]
        if series:
            drawn.append({"title": title, "series": series})
    return drawn


def _points(events: RunEvents, tag: str) -> list[list[float]]:
    """Return a curve, thinned to `POINTS`; its last point stays."""
    steps, values = events.curve(tag)
    every = -(-len(steps) // POINTS) or 1
    first = (len(steps) - 1) % every
    return [[int(step), round(float(value), 6)]
            for step, value in zip(steps[first::every], values[first::every], strict=True)
            if value == value]  # a NaN is no point


def clip_count(events: RunEvents) -> tuple[int, int]:
    """Return the step of the last validation's clips, and how many can be heard; 0 without any."""
    if not events.audio:
        return 0, 0
    steps, clips = zip(*events.audio.values(), strict=True)
    return max(steps), min(map(len, clips))


def clip_tracks(events: RunEvents, number: int, address: str) -> list[Track]:
    """Return the tracks of a clip: noisy, estimate and clean, each with its mel.

    Args:
        events: What the run has logged.
        number: Number of the clip, counted from 0.
        address: Where its sounds are, as `ADDRESS/NAME.wav`.

    Raises:
        ServeError: When there is no such clip.
    """
    if not 0 <= number < clip_count(events)[1]:
        raise ServeError("there is no such clip yet: the first validation makes them", status=404)
    names = [tag.removeprefix("audio/") for tag in events.audio]
    (_, pictures), = events.images.values()
    mels = _split(pictures[number], len(names))
    return [Track(name, f"{address}/{name}.wav", mel)
            for name, mel in zip(names, mels, strict=True)]


def _split(png: bytes, count: int) -> list[str]:
    """Return the parts of a picture of several mels over each other, as data URIs."""
    from PIL import Image

    uris = []
    with Image.open(io.BytesIO(png)) as picture:
        height = picture.height // count
        for part in range(count):
            stream = io.BytesIO()
            picture.crop((0, part * height, picture.width, (part + 1) * height)).save(
                stream, format="png")
            uris.append(f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}")
    return uris
