"""Headers of audio files, compared with the bytes that follow them.

`check_header` opens a file and hands it to the module of its format; the result is a `HeaderCheck`.
"""

from gan_denoise.audio.headers.check import check_header, check_open_header
from gan_denoise.audio.headers.header_check import HeaderCheck, RawSamples, read_exactly
from gan_denoise.audio.headers.wav import is_unknown_size

__all__ = ["HeaderCheck", "RawSamples", "check_header", "check_open_header", "is_unknown_size",
           "read_exactly"]
