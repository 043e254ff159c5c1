"""Audio files and WAV streams: found, read to their end, written whole or not at all.

Arrays are float `[channels, samples]` with full scale at +-1. No network, no mel, no Keras.
"""

from gan_denoise.audio.file_search import (
    AUDIO_SUFFIXES,
    Found,
    describe_passed_over,
    find_audio,
    is_audio_suffix,
    search,
)
from gan_denoise.audio.reader import (
    AudioError,
    AudioInfo,
    Reader,
    bit_rate,
    blocks,
    native_name,
    probe,
    read,
    read_mono,
)
from gan_denoise.audio.samples import peak, peak_dbfs, resample, to_mono

__all__ = [
    "AUDIO_SUFFIXES", "AudioError", "AudioInfo", "Found", "Reader", "bit_rate", "blocks",
    "describe_passed_over", "find_audio", "is_audio_suffix", "native_name", "peak", "peak_dbfs",
    "probe", "read", "read_mono", "resample", "search", "to_mono",
]  # fmt: skip
