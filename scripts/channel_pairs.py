"""Pairs of noisy and clean recordings behind telephones' bands, low-pass filters and codecs.

    python scripts/channel_pairs.py PAIRS... --out behind --rooms rooms  # each with noisy/, clean/
    gan-denoise evaluate --noisy behind/gsm/noisy --clean behind/gsm/clean

Both recordings of a pair pass through the channel, the clean one by itself: what is to be estimated
is what a telephone makes of clean speech. A codec makes something else of speech in noise, and no
gain for each band brings that back, so the oracle's row of `evaluate` is the limit. The folder
`clean` has the clean recordings as both, `reverberant` those in rooms and as they are, `rumble` the
pairs as they are with loud noise below speech in the noisy ones.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from rich.progress import track

from gan_denoise import metrics
from gan_denoise.audio import find_audio, peak, read_mono
from gan_denoise.data.augment import reverberate
from gan_denoise.data.channel import pass_band, transcode
from gan_denoise.data.mixing import snr_gain
from gan_denoise.data.pairs import Pair, match_folders

SAMPLE_RATE = 16000  # Hz
ORDER = 12.0  # of a band's edges
CEILING = 0.99  # of full scale: codecs overshoot
RUMBLE_HZ, RUMBLE_ORDER, RUMBLE_SNR = 40.0, 4.0, -10.0  # upper edge, and dB of speech over it

# float32 [noisy and clean, samples] and Hz: the two behind the channel
Channel = Callable[[np.ndarray, int], np.ndarray]

CHANNELS: dict[str, Channel] = {
    "telephone": partial(pass_band, low=(300.0, ORDER), high=(3400.0, ORDER)),
    "low-cut": partial(pass_band, low=(300.0, ORDER)),
    "low-pass-2000": partial(pass_band, high=(2000.0, ORDER)),
    "low-pass-3000": partial(pass_band, high=(3000.0, ORDER)),
    "low-pass-4000": partial(pass_band, high=(4000.0, ORDER)),
    "gsm": partial(transcode, container="WAV", subtype="GSM610"),
    "mp3": partial(transcode, container="MP3", subtype="MPEG_LAYER_III", level=0.83),  # 32 kbit/s
    "opus": partial(transcode, container="OGG", subtype="OPUS", level=0.975),  # 12 kbit/s
    "clean": lambda pair, sample_rate: pair[[1, 1]],
}


def main() -> None:
    """Write the pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="with noisy and clean in each")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--snr", nargs=2, type=float, default=(3.0, 17.0), metavar=("LOW", "HIGH"),
                        help="SI-SDR of the noisy recordings taken, in dB (3 17)")
    parser.add_argument("--rooms", type=Path, metavar="FOLDER",
                        help="of room impulse responses, taken in turn")
    given = parser.parse_args()
    channels = CHANNELS | {"rumble": partial(over_rumble, rng=np.random.default_rng(0))}
    if given.rooms:
        responses = [read_mono(file, SAMPLE_RATE) for file in find_audio(given.rooms)]
        channels["reverberant"] = partial(in_a_room, responses=itertools.cycle(responses))
    pairs = [pair for folder in given.folders
             for pair in match_folders(folder / "noisy", folder / "clean")]
    taken = sum(write_behind(channels, pair, given.out, *given.snr)
                for pair in track(pairs, "pairs", transient=True))
    print(f"{given.out}: {taken} of {len(pairs)} pairs behind each of {', '.join(channels)}")


def in_a_room(pair: np.ndarray, sample_rate: int, responses: Iterator[np.ndarray]) -> np.ndarray:
    """Return the clean recording in the next room, float32 [samples], and as it is."""
    reverberant, _ = reverberate(pair[1], next(responses), early=0)
    return np.stack([reverberant, pair[1]])


def over_rumble(pair: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return the noisy recording with rumble, float32 [samples], and the clean one."""
    white = rng.standard_normal((1, pair.shape[1]), dtype=np.float32)
    rumble = pass_band(white, sample_rate, high=(RUMBLE_HZ, RUMBLE_ORDER))[0]
    return np.stack([pair[0] + rumble * snr_gain(pair[1], rumble, RUMBLE_SNR), pair[1]])


def write_behind(channels: dict[str, Channel], pair: Pair, out: Path, low: float, high: float
                 ) -> bool:
    """Write a pair behind each channel, and tell whether its SI-SDR in dB lies in a range."""
    noisy, clean = (read_mono(file, SAMPLE_RATE) for file in (pair.noisy, pair.clean))
    samples = min(len(noisy), len(clean))
    recordings = np.stack([noisy[:samples], clean[:samples]])
    if not low <= metrics.si_sdr(recordings[1], recordings[0]) <= high:
        return False
    for name, channel in channels.items():
        heard = channel(recordings, SAMPLE_RATE)
        heard *= np.float32(min(1.0, CEILING / max(peak(heard), 1e-9)))
        for side, recording in zip(("noisy", "clean"), heard, strict=True):
            file = out / name / side / f"{pair.noisy.parents[1].name}-{pair.name}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, recording, SAMPLE_RATE, subtype="FLOAT")
    return True


if __name__ == "__main__":
    main()
