"""Audio files and WAV streams: found, read to their end, written whole or not at all.

Arrays are float `[channels, samples]` with full scale at +-1. Nothing here knows of networks or
spectra.
"""

from gan_denoise.audio.errors import AudioError
from gan_denoise.audio.file_search import (
    AUDIO_SUFFIXES,
    Found,
    describe_passed_over,
    find_audio,
    is_audio_suffix,
    search,
)
from gan_denoise.audio.info import AudioInfo, describe_anomalies
from gan_denoise.audio.reader import Reader, bit_rate, blocks, probe, read, read_mono
from gan_denoise.audio.samples import peak, peak_dbfs, resample, to_mono

__all__ = [
    "AUDIO_SUFFIXES", "AudioError", "AudioInfo", "Found", "Reader", "bit_rate", "blocks",
    "describe_anomalies", "describe_passed_over", "find_audio", "is_audio_suffix", "peak",
    "peak_dbfs", "probe", "read", "read_mono", "resample", "search", "to_mono",
]  # fmt: skip
