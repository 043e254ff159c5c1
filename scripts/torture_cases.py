"""The files of the torture corpus as tables, and what makes them: see torture_audio.py."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile as sf

from gan_denoise.data import synthetic_audio

SNR = 20.0  # dB of the made-up voice; little noise, so that the output resembles the input
# File; sample rate/channels/seconds of the voice (10n: 10 samples; 0s: silence); command: one that
# begins with "-" is what stands between ffmpeg's input and output, "soundfile" is followed by a
# subtype of libsndfile's (that no command line writes), all else is for the shell. {i} is the voice
# in 24 bit, {i16} in 16 bit, {o} the file, {d} the folder of the corpus.
ENCODED = """
wav_u8.wav              22050/1/2    -c:a pcm_u8
wav_s16.wav             16000/1/4    -c:a pcm_s16le
wav_s16_long.wav        44100/2/20   -c:a pcm_s16le
wav_s24.wav             48000/2/3    -c:a pcm_s24le
wav_s32.wav             96000/1/2    -c:a pcm_s32le
wav_f32.wav             48000/1/3    -c:a pcm_f32le
wav_f64.wav             32000/2/2    -c:a pcm_f64le
wav_odd_rate.wav        11127/1/2    -c:a pcm_s16le
wav_half_second.wav     16000/1/0.5  -c:a pcm_s16le
wav_bext.wav            48000/1/2    -write_bext 1 -metadata description=Scene_4 -c:a pcm_s24le
wav_51.wav              48000/6/2    -c:a pcm_s16le
wav_51_side.wav         48000/6/2    -channel_layout '5.1(side)' -c:a pcm_s24le
wav_quad.wav            16000/4/2    -c:a pcm_s16le
wav_streamed.wav        16000/1/3    ffmpeg -v error -i {i} -f wav - | cat > {o}
wav_mulaw.wav           8000/1/4     -c:a pcm_mulaw
wav_alaw.wav            8000/2/3     -c:a pcm_alaw
wav_ima.wav             8000/1/5.123 -c:a adpcm_ima_wav
wav_ima_stereo.wav      22050/2/3    -c:a adpcm_ima_wav
wav_ima_sox.wav         16000/1/2.3  sox {i} -e ima-adpcm {o}
wav_ms.wav              8000/1/5.123 -c:a adpcm_ms
wav_ms_stereo.wav       44100/2/2    sox {i} -e ms-adpcm {o}
wav_yamaha.wav          16000/1/2    -c:a adpcm_yamaha
wav_gsm.wav             8000/1/4     sox {i} -e gsm-full-rate {o}
wav_gsm_ffmpeg.wav      8000/1/3.1   -c:a libgsm_ms
wav_g726_32.wav         8000/1/3     -c:a g726 -b:a 32k
wav_g726_16.wav         8000/1/3     -c:a g726 -b:a 16k
wav_g721.wav            8000/1/4     soundfile G721_32
wav_g722.wav            16000/1/3    -c:a g722
wav_mp3.wav             44100/2/3    -c:a libmp3lame -b:a 128k
wav_ac3.wav             48000/2/2    -c:a ac3
rf64.rf64               48000/2/2    -rf64 always -f wav
rf64_named.wav          48000/1/2    -rf64 always
w64.w64                 48000/1/3    -c:a pcm_s16le
w64_f32.w64             44100/2/2    -c:a pcm_f32le
aiff_s16.aiff           44100/2/3    -c:a pcm_s16be
aiff_s24.aif            48000/1/2    -c:a pcm_s24be
aifc_sowt.aifc          44100/1/2    -c:a pcm_s16le -f aiff
aifc_ulaw.aifc          8000/1/3     -c:a pcm_mulaw -f aiff
aifc_f32.aiff           48000/1/2    -c:a pcm_f32be
au_s16.au               16000/1/3    -c:a pcm_s16be
au_mulaw.snd            8000/1/3     -c:a pcm_mulaw -f au
au_g721.au              8000/1/3     soundfile G721_32
caf_s16.caf             44100/2/2    -c:a pcm_s16be
caf_f32.caf             48000/1/2    -c:a pcm_f32le
caf_alac.caf            44100/2/3    -c:a alac
caf_opus.caf            48000/1/3    -c:a libopus
voc.voc                 16000/1/2    sox {i} {o}
sphere.sph              16000/1/2    sox {i} {o}
8svx.8svx               22050/1/2    sox {i} {o}
ircam.ircam             44100/1/2    sox {i} {o}
flac_s16.flac           16000/1/4    flac -s --force -o {o} {i16}
flac_s24.flac           96000/2/2    -c:a flac -sample_fmt s32
flac_51.flac            48000/6/2    -c:a flac
flac_best_long.flac     48000/2/10   -c:a flac -compression_level 12
flac_piped.flac         16000/1/3    cat {i16} | flac -s -c - | cat > {o}
flac_ffmpeg_pipe.flac   44100/2/3    ffmpeg -v error -i {i} -f flac - | cat > {o}
flac_cover.flac         44100/2/2    {p} -map 1:a -map 0:v -c:v copy -disposition:v attached_pic
ogg_vorbis.ogg          44100/2/4    -c:a libvorbis -q:a 4
ogg_vorbis_low.ogg      16000/1/3    -c:a libvorbis -q:a 0
ogg_vorbis_high.ogg     44100/2/3    -c:a libvorbis -q:a 8
ogg_vorbis_sox.oga      22050/1/3    sox {i} -t ogg -C 8 {o}
ogg_vorbis_51.ogg       48000/6/2    -c:a libvorbis
ogg_opus.ogg            48000/2/3    -c:a libopus -b:a 96k
opus_low.opus           16000/1/5    -c:a libopus -b:a 16k -application voip
opus_high.opus          48000/2/3    -c:a libopus -b:a 160k
opus_51.opus            48000/6/2    -c:a libopus
opus_60ms.opus          48000/1/3    -c:a libopus -frame_duration 60
opus_voice_message.oga  48000/1/3.3  -c:a libopus -b:a 24k
ogg_flac.ogg            44100/1/2    -c:a flac
ogg_flac_named.oga      44100/2/2    -c:a flac
speex_wide.spx          16000/1/3    -c:a libspeex
speex_narrow.ogg        8000/1/3     -c:a libspeex
ogg_chained.ogg         44100/2/4    cat {d}/ogg_vorbis.ogg {d}/ogg_vorbis_high.ogg > {o}
mp3_32.mp3              16000/1/3    lame --quiet -b 32 {i} {o}
mp3_64_mono.mp3         44100/1/3    lame --quiet -b 64 {i} {o}
mp3_128_joint.mp3       44100/2/4    lame --quiet -m j -b 128 {i} {o}
mp3_192_48k.mp3         48000/2/3    -c:a libmp3lame -b:a 192k
mp3_320.mp3             44100/2/20   lame --quiet -b 320 {i} {o}
mp3_vbr.mp3             44100/2/8    lame --quiet -V2 {i} {o}
mp3_vbr_no_xing.mp3     16000/1/8    lame --quiet -V2 -t {i} {o}
mp3_vbr_pipe.mp3        44100/1/5    ffmpeg -v error -i {i} -q:a 4 -f mp3 - | cat > {o}
mp3_cbr_no_xing.mp3     16000/1/4    lame --quiet -b 32 -t {i} {o}
mp3_abr.mp3             32000/2/3    lame --quiet --abr 90 {i} {o}
mp3_mpeg2.mp3           22050/1/3    lame --quiet -b 56 {i} {o}
mp3_mpeg25.mp3          8000/1/3     lame --quiet -b 16 {i} {o}
mp3_mpeg25_11k.mp3      11025/2/3    lame --quiet -b 32 {i} {o}
mp3_cover.mp3           44100/2/3    {p} -map 1:a -map 0:v -c:v copy -b:a 128k -id3v2_version 3
mp3_joined.mp3          44100/2/4    cat {d}/mp3_128_joint.mp3 {d}/mp3_vbr.mp3 > {o}
mp2.mp2                 48000/2/3    -c:a mp2 -b:a 192k
m4a_aac.m4a             44100/2/4    -c:a aac -b:a 128k
m4a_voice_memo.m4a      48000/1/20   -c:a aac -b:a 64k -movflags +faststart
m4a_16k.m4a             16000/1/3    -c:a aac -b:a 32k
m4a_alac.m4a            44100/2/3    -c:a alac
m4a_alac24.m4a          48000/1/2    -c:a alac -sample_fmt s32p
m4a_cover.m4a           44100/2/3    {p} -map 1:a -map 0:v -c:v copy -disposition:v attached_pic
m4a_51.m4a              48000/6/2    -c:a aac -b:a 384k
m4b.m4b                 22050/1/3    -c:a aac -b:a 48k -f ipod
m4a_fragments.m4a       44100/1/3    -c:a aac -f mp4 -movflags +frag_keyframe+empty_moov
adts.aac                44100/2/3    -c:a aac -b:a 128k
adts_8k.aac             8000/1/3     -c:a aac -b:a 24k
mp4_h264.mp4            48000/2/4    {v} -c:v libx264 -c:a aac -b:a 128k
mp4_sound_first.mp4     44100/1/3    {v} -map 1:a -map 0:v -c:v mpeg4 -c:a aac -movflags +faststart
mp4_sound_late.mp4      48000/1/3    {late} -c:v libx264 -c:a aac -b:a 96k
mp4_mp3.mp4             44100/2/3    {v} -c:v mpeg4 -c:a libmp3lame -b:a 128k
mov_pcm.mov             48000/2/3    {v} -c:v mjpeg -c:a pcm_s16le
mov_pcm24.mov           48000/1/2    {v} -c:v mpeg4 -c:a pcm_s24be
mov_aac.mov             44100/2/3    {v} -c:v libx264 -c:a aac -b:a 128k
3gp_amr.3gp             8000/1/4     sox {i} -t amr-nb -C 7 - | ffmpeg -v error -i - -c copy {o}
3gp_aac.3gp             16000/1/3    {v} -c:v mpeg4 -c:a aac -b:a 32k
amr_nb.amr              8000/1/5     sox {i} -t amr-nb -C 7 {o}
amr_nb_low.amr          8000/1/3     sox {i} -t amr-nb -C 0 {o}
gsm_raw.gsm             8000/1/3     sox {i} {o}
webm_vp8_opus.webm      48000/2/3    {v} -c:v libvpx -c:a libopus -b:a 96k
webm_vp9_opus.webm      48000/1/3    {v} -c:v libvpx-vp9 -c:a libopus -b:a 64k
webm_opus.webm          48000/1/4    -c:a libopus -b:a 48k
webm_vorbis.webm        44100/2/3    -c:a libvorbis
webm_recorder.webm      48000/1/4    ffmpeg -v error -i {i} -c:a libopus -f webm - | cat > {o}
mka_aac.mka             44100/2/3    -c:a aac -b:a 128k
mka_flac.mka            48000/2/3    -c:a flac
mka_pcm.mka             16000/1/2    -c:a pcm_s16le
mkv_h264_ac3.mkv        48000/2/3    {v} -c:v libx264 -c:a ac3 -b:a 192k
mkv_opus.mkv            48000/1/3    {v} -c:v libx264 -c:a libopus
mkv_two_tracks.mkv      48000/1/3    {v} -map 0:v -map 1:a -map 1:a -c:v mpeg4 -c:a libvorbis
mkv_subtitles.mkv       48000/1/3    {v} -f srt -i {srt} -map 0 -map 1 -map 2 -c:v libx264
mp4_subtitles.mp4       48000/1/3    {v} -f srt -i {srt} -map 0 -map 1 -map 2 -c:s mov_text
ac3.ac3                 48000/2/3    -c:a ac3 -b:a 192k
ac3_51.ac3              48000/6/2    -c:a ac3 -b:a 448k
eac3.eac3               48000/2/3    -c:a eac3 -b:a 192k
dts.dts                 48000/2/2    -c:a dca -strict -2 -b:a 768k
wma.wma                 44100/2/4    -c:a wmav2 -b:a 128k
wma_16k.wma             16000/1/3    -c:a wmav2 -b:a 32k
wma1.wma                22050/1/3    -c:a wmav1 -b:a 48k
wavpack.wv              44100/2/3    -c:a wavpack
wavpack_f32.wv          48000/1/2    -c:a wavpack -sample_fmt fltp
tta.tta                 44100/2/3    -c:a tta
flv_mp3.flv             44100/2/3    {v} -c:v flv -c:a libmp3lame -b:a 128k
flv_aac.flv             44100/1/3    {v} -c:v libx264 -c:a aac
avi_mp3.avi             44100/2/3    {v} -c:v mpeg4 -c:a libmp3lame -b:a 128k
avi_pcm.avi             48000/2/2    {v} -c:v mjpeg -c:a pcm_s16le
ts_aac.ts               48000/2/3    {v} -c:v libx264 -c:a aac -b:a 128k
mpg_mp2.mpg             48000/2/3    {v} -c:v mpeg2video -r 25 -c:a mp2 -b:a 192k
wav_f32_loud.wav        48000/1/2    -af volume=40dB -c:a pcm_f32le
one_sample.wav          16000/1/1n   -c:a pcm_s16le
ten_samples.wav         44100/2/10n  -c:a pcm_s24le
ten_samples_l.flac      16000/1/10n  -c:a flac
silence.wav             16000/1/0s   -c:a pcm_s16le
silence_l.mp3           44100/2/0s   lame --quiet -b 128 {i} {o}
silence_o.opus          48000/1/0s   -c:a libopus
silence_a.m4a           44100/2/0s   -c:a aac
""".strip().splitlines()
PARTS = {"ogg_chained.ogg": ["ogg_vorbis.ogg", "ogg_vorbis_high.ogg"]}  # joined to the sample
SRT = r"<(printf '1\n00:00:00,500 --> 00:00:02,000\nGood morning\n')"
VIDEO = "-f lavfi -i testsrc2=s=128x96:r=10:d={t}"
INPUTS = {"{v}": VIDEO + " -i {i}", "{late}": VIDEO + " -itsoffset 0.4 -i {i}",
          "{p}": "-i {picture} -i {i}", "{srt}": SRT}


def sized(chunk: bytes, size: int | float, order: str = "<"):
    """Return an edit that writes another size into a chunk's header; a float is a factor."""
    def edit(data: bytes) -> bytes:
        at = data.index(chunk) + 4
        value = size if isinstance(size, int) else int(
            size * struct.unpack_from(order + "I", data, at)[0]) & ~1
        return data[:at] + struct.pack(order + "I", value) + data[at + 4:]
    return edit


def flac_total(factor: float):
    """Return an edit of the count of samples, the low 36 bits at byte 18 of a FLAC."""
    def edit(data: bytes) -> bytes:
        bits, = struct.unpack_from(">Q", data, 18)
        total = int((bits & (1 << 36) - 1) * factor)
        return data[:18] + struct.pack(">Q", bits >> 36 << 36 | total) + data[26:]
    return edit


def xing_frames(factor: float):
    """Return an edit of the count of frames in the Xing header of an MP3."""
    def edit(data: bytes) -> bytes:
        at = max(data.find(b"Xing"), data.find(b"Info")) + 8
        frames, = struct.unpack_from(">I", data, at)
        return data[:at] + struct.pack(">I", int(frames * factor)) + data[at + 4:]
    return edit


def part(share: float):
    """Return an edit that keeps the first share of the bytes."""
    return lambda data: data[:int(len(data) * share)]


def id3(size: int) -> bytes:
    """Return an ID3v2 tag that is padding alone."""
    return b"ID3\3\0\0" + bytes(size >> s & 127 for s in (21, 14, 7, 0)) + b"\0" * size


APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 1 << 31) + b"\0" * 8
# File, kind, file that it is made from, edit of its bytes. All but the cut ones must sound like the
# file that they are made from.
EDITED = [
    ("wav_data_0.wav", "noted", "wav_s16.wav", sized(b"data", 0)),
    ("wav_data_all_ones.wav", "whole", "wav_s16.wav", sized(b"data", 0xFFFFFFFF)),
    ("wav_data_short.wav", "noted", "wav_s16.wav", sized(b"data", 0.6)),
    ("wav_data_long.wav", "cut", "wav_s16.wav", sized(b"data", 1.5)),
    ("wav_riff_0.wav", "whole", "wav_s16.wav", sized(b"RIFF", 0)),
    ("wav_riff_8.wav", "whole", "wav_s16.wav", sized(b"RIFF", 8)),
    ("wav_riff_long.wav", "whole", "wav_s16.wav", sized(b"RIFF", 1.5)),
    ("wav_never_closed.wav", "noted", "wav_s24.wav",
     lambda data: sized(b"RIFF", 4088)(sized(b"data", 0)(data))),
    ("aiff_never_closed.aiff", "noted", "aiff_s16.aiff", sized(b"SSND", 0, ">")),
    ("au_unknown_length.au", "whole", "au_s16.au",
     lambda data: data[:8] + b"\xff" * 4 + data[12:]),
    ("flac_total_0.flac", "whole", "flac_s16.flac", flac_total(0)),
    ("flac_total_small.flac", "noted", "flac_s16.flac", flac_total(0.6)),
    ("flac_total_large.flac", "noted", "flac_s16.flac", flac_total(1.5)),
    ("flac_id3.flac", "whole", "flac_s16.flac", lambda data: id3(2000) + data),
    ("mp3_id3_padding.mp3", "whole", "mp3_cbr_no_xing.mp3", lambda data: id3(100_000) + data),
    ("mp3_ape.mp3", "whole", "mp3_cbr_no_xing.mp3", lambda data: data + APE + b"\0" * 2000),
    ("mp3_id3v1.mp3", "whole", "mp3_cbr_no_xing.mp3",
     lambda data: data + b"TAG" + b"\0" * 125),
    ("mp3_zeros.mp3", "whole", "mp3_cbr_no_xing.mp3", lambda data: b"\0" * 4000 + data),
    ("mp3_xing_small.mp3", "noted", "mp3_vbr.mp3", xing_frames(0.4)),
    ("mp3_xing_large.mp3", "noted", "mp3_vbr.mp3", xing_frames(1.5)),
    *((f"part_{name}", "part", name, part(0.5)) for name in (
        "mp3_cbr_no_xing.mp3", "adts.aac", "amr_nb.amr", "ac3.ac3", "mka_flac.mka", "wma.wma",
        "avi_pcm.avi", "webm_recorder.webm", "m4a_fragments.m4a")),
    *((f"cut_{name}", "cut", name, part(share))
      for name, share in (
          ("wav_s16.wav", 0.5), ("wav_s24.wav", 0.5003), ("wav_ima.wav", 0.5), ("rf64.rf64", 0.5),
          ("w64.w64", 0.5), ("aiff_s16.aiff", 0.5), ("caf_s16.caf", 0.5), ("au_s16.au", 0.5),
          ("flac_s16.flac", 0.5), ("flac_s24.flac", 0.7), ("ogg_vorbis.ogg", 0.5),
          ("opus_low.opus", 0.5), ("mp3_vbr.mp3", 0.5), ("mp3_128_joint.mp3", 0.5),
          ("m4a_voice_memo.m4a", 0.6), ("mp4_sound_first.mp4", 0.6), ("wavpack.wv", 0.5))),
    ("cut_moov_lost.m4a", "refused", "m4a_aac.m4a", part(0.5)),
    ("cut_in_header.wav", "refused", "wav_s16.wav", lambda data: data[:30]),
    ("cut_before_sound.flac", "refused", "flac_s16.flac", lambda data: data[:60]),
    ("named_m4a.mp3", "whole", "m4a_aac.m4a", bytes),
    ("named_wav.flac", "whole", "wav_s16.wav", bytes),
    ("named_ogg.mp3", "whole", "ogg_vorbis.ogg", bytes),
    ("named_mp3.wav", "whole", "mp3_128_joint.mp3", bytes),
    ("upper_case.WAV", "whole", "wav_s24.wav", bytes),
    ("Upper_Case.M4A", "whole", "m4a_16k.m4a", bytes),
    ("ünï – 日本語 🎙.flac", "whole", "flac_s16.flac", bytes),
    ("voice memo, #1 (50%d) [x] 'q'.m4a", "whole", "m4a_16k.m4a", bytes),
    ("http: no link.opus", "whole", "opus_low.opus", bytes),
    ("-o.mp3", "whole", "mp3_mpeg2.mp3", bytes),
    ("line\nbreak \x1b[31m.wav", "whole", "wav_half_second.wav", bytes),
    ("latin1 \udce9.m4a", "whole", "m4a_16k.m4a", bytes),
    ("l" * 230 + "ong.ogg", "whole", "ogg_vorbis_low.ogg", bytes),
    ("empty.wav", "refused", None, lambda _: b""),
    ("empty.m4a", "refused", None, lambda _: b""),
    ("text.wav", "refused", None, lambda _: b"These are the minutes of the meeting.\n" * 50),
    ("text.mp3", "refused", None, lambda _: b"<html><body>404 not found</body></html>\n" * 50),
]


def make(out: Path) -> None:
    """Write OUT/corpus and OUT/manifest.json, a list of {path, kind, made, reference}.

    `reference` names the files that a file must sound like, one after the other: itself where its
    own decoding tells. What the tools of a machine cannot make is named on standard error and left
    out.
    """
    corpus, masters = out / "corpus", out / "masters"
    corpus.mkdir(parents=True)
    masters.mkdir()
    picture = masters / "picture.png"
    _shell(f"ffmpeg -v error -f lavfi -i testsrc2=s=64x64 -frames:v 1 {picture}")
    rows = [line.split(None, 2) for line in ENCODED]
    for spec in sorted({spec for _, spec, _ in rows}):
        _write_master(masters, spec)

    def encode(row: list[str]) -> dict | None:
        name, spec, command = row
        for word, meaning in INPUTS.items():
            command = command.replace(word, meaning)
        if command.startswith("-"):
            inputs = "" if "-i " in command else "-i {i} "
            command = f"ffmpeg -v error {inputs}{command} {{o}}"
        master = masters / spec.replace("/", "_")
        if command.startswith("soundfile"):
            sf.write(corpus / name, *sf.read(f"{master}.wav"), command.split()[1])
            return {"path": name, "kind": "whole", "made": command, "reference": [name]}
        command = command.format(
            i=f"{master}.wav", i16=f"{master}_16.wav", o=corpus / name, d=corpus, picture=picture,
            t=spec.split("/")[2])
        failed = _shell(command)
        if failed:
            print(f"left out: {name}: {failed}", file=sys.stderr)
            (corpus / name).unlink(missing_ok=True)
            return None
        return {"path": name, "kind": "whole", "made": command.replace(f"{out}/", ""),
                "reference": PARTS.get(name, [name])}

    with ThreadPoolExecutor(2) as pool:
        joins = [row for row in rows if row[2].startswith("cat {d}")]
        made = list(pool.map(encode, [row for row in rows if row not in joins]))
        made += map(encode, joins)
    manifest = [entry for entry in made if entry]
    known = {entry["path"] for entry in manifest}
    for name, kind, source, edit in EDITED:
        if source is None or source in known:
            (corpus / name).write_bytes(edit((corpus / source).read_bytes() if source else b""))
            itself = kind in ("cut", "part", "refused") or source is None
            manifest.append({"path": name, "kind": kind, "made": f"bytes of {source}, edited",
                             "reference": [name if itself else source]})
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1))


def _write_master(masters: Path, spec: str) -> None:
    """Write the voice of a spec, in 24 and in 16 bit; each channel is another speaker."""
    rate, channels, length = spec.split("/")
    rate, silent = int(rate), length == "0s"
    samples = (int(length[:-1]) if length.endswith("n") else
               round(rate * (2.0 if silent else float(length))))
    audio = np.zeros((samples, int(channels)))
    if not silent:
        seconds = max(samples / rate, 0.5)
        for channel in range(int(channels)):
            voice = synthetic_audio.voice(channel, seconds, samples, rate)
            noise = synthetic_audio.noise("pink", seconds, samples + channel, rate)
            noise *= np.sqrt(np.mean(voice**2) / np.mean(noise**2)) * 10 ** (-SNR / 20)
            audio[:, channel] = (voice + noise)[:samples] * 0.9**channel
    name = masters / spec.replace("/", "_")
    sf.write(f"{name}.wav", audio, rate, "PCM_24")
    sf.write(f"{name}_16.wav", audio, rate, "PCM_16")


def _shell(command: str) -> str:
    """Run a command line; return the last line of what it says where it failed."""
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True)
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"exit {done.returncode}")
