"""Audio files of all sorts, made by ffmpeg, sox, lame and flac, cleaned and compared.

    python scripts/torture_audio.py make check --out build/torture-audio

`make` writes OUT/corpus and OUT/manifest.json: what each file is, and what is expected of it.
`check` runs `gan-denoise denoise` once over the corpus, decodes every input and output with the
ffmpeg command line, and compares length, alignment, rate, channels, level, speech, container, codec
and picture. What is refused with the `--format` that works is done again with `--format wav`. Exit
code 1 where a file is wrong. OUT/formats.md holds what was measured; `--table docs/formats.md` puts
it there.

Kinds that a file is expected to be: whole (done; a note is allowed), noted (done, with a note), cut
(done as far as it goes, a note "cut off ..."), part (the same, though no note can be asked for),
refused (failed, with a reason). Needs ffmpeg, sox, lame and flac on the PATH.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf
from scipy import fft
from torture_cases import make

# Samples by which length and place may differ: by file, container and codec, or codec; others by
# none. ffmpeg's own encoders differ by as much where the container does not hold the codec's delay.
TOLERANCE = {
    "adpcm_ima_wav": (2048, 0), "adpcm_ms": (1024, 0), "adpcm_yamaha": (1024, 0),  # a block
    "gsm": (160, 0), "gsm_ms": (320, 0), "adpcm_g722": (0, 22),  # of its filter bank
    "mp3 mp3": (0, 0), "mov mp3": (1152, 0), "mp3": (1152, 1105),
    "mov aac": (1024, 0), "aac": (2048, 1024), "ac3": (1536, 256), "eac3": (1536, 256),
    "mp2": (1152, 481), "dts": (512, 512), "wmav1": (2048, 2048), "wmav2": (2048, 2048),
    "caf opus": (960, 312), "opus": (0, 5),  # of the resampler that low rates have
    "matroska vorbis": (1024, 0), "amr_nb": (160, 80),
    # ffmpeg 5.1 loses the end of a .voc, counts the Xing frame of a second MP3, and keeps the
    # priming of AAC that begins late, as it does the padding where the Xing header is wrong.
    "voc.voc": (4, 0), "mp3_joined.mp3": (4608, 0), "mp4_sound_late.mp4": (2048, 1024),
    "mp3_xing_large.mp3": (1152, 0), "mp3_xing_small.mp3": (1152, 0), "ogg_chained.ogg": (256, 0),
}
LEAST_CORRELATION = 0.8  # of output and input, at the lag
LEAST_OF = {"amr_nb": 0.65}  # by codec: encoded again without cleaning it is 0.78
BLOCK_SECONDS, LEAST_IN_BLOCK = 0.5, 0.4  # the same where a block is as loud as the average
LEVEL = (-4.0, 1.5)  # dB that the output's level may differ from the input's
AUDIBLE = 1e-3  # RMS of a channel in which speech is looked for
LFE = 3  # the channel of 5.1
SHORTEST = 0.2  # seconds; in less no speech is looked for
BIT_RATES = (0.55, 1.6)  # of the input's, of codecs that lose
EXIT_CODES = {"whole": 0, "noted": 0, "passed over": 0, "cut": 1, "format": 1, "refused": 1}
LOSSLESS = ("pcm_", "flac", "alac", "wavpack", "tta")
NEVER = re.compile(r"\b(remove|delete) (it|the file)\b|disk full|Traceback", re.IGNORECASE)


@dataclass
class Sound:
    """A file as ffmpeg sees it: what ffprobe says, and samples [samples, channels]."""

    container: str
    codec: str  # of PCM without the order of bytes
    rate: int
    channels: int
    layout: str
    depth: tuple[str, str]
    bit_rate: float  # bit/s, of its packets
    start: float
    audio: np.ndarray
    streams: str  # kinds of all streams
    pictures: str  # checksum of their packets

    @property
    def lossless(self) -> bool:
        """Whether the codec keeps every sample."""
        return self.codec.startswith(LOSSLESS)


@dataclass
class Verdict:
    """What came of a file: its state, what is wrong, how far output and input differ."""

    name: str
    kind: str
    state: str = ""
    wrong: list[str] = field(default_factory=list)
    format: tuple[str, str] = ("", "")
    written: bool = False
    length: int = 0
    lag: int = 0


def main() -> int:
    """Make and check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", help="make, check; both if none is given")
    parser.add_argument("--out", type=Path, default=Path("build/torture-audio"))
    parser.add_argument("--only", metavar="REGEX", help="check files of such names")
    parser.add_argument("--table", type=Path, help="Markdown file to put what was measured into")
    given = parser.parse_args()
    steps = given.steps or ["make", "check"]
    if unknown := set(steps) - {"make", "check"}:
        parser.error(f"unknown step: {', '.join(sorted(unknown))}")
    out = given.out.resolve()
    if "make" in steps:
        for name in ("corpus", "masters"):
            shutil.rmtree(out / name, ignore_errors=True)
        make(out)
    code = check(out, given.only) if "check" in steps else 0
    if given.table is not None:
        marks = "<!-- measured -->\n", "<!-- end -->"
        before, _, rest = given.table.read_text().partition(marks[0])
        given.table.write_text(before + marks[0] + (out / "formats.md").read_text() + marks[1]
                               + rest.partition(marks[1])[2])
    return code


def check(out: Path, only: str | None = None) -> int:
    """Clean the corpus, compare all of it, say what is wrong; return the exit code."""
    cases = json.loads((out / "manifest.json").read_text())
    inputs = [out / "corpus"]
    if only:
        cases = [case for case in cases if re.search(only, case["path"])]
        inputs = [out / "corpus" / case["path"] for case in cases]
    rows, code, said = denoise(inputs, out / "cleaned")
    if not rows:
        print(f"wrong: the run ended without a report: {said.strip().splitlines()[-1:]}")
        return 1
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda c: judge(out, c, rows.get(c["path"]), said), cases))
    # Refused with the --format that works, or passed over and named: does that format work?
    again = [v for v in verdicts if v.state in ("format", "passed over")]
    wav_rows, _, _ = denoise([out / "corpus" / v.name for v in again], out / "wav",
                             "--format", "wav") if again else ({}, 0, "")
    by_name = {case["path"]: case for case in cases}
    for verdict in again:
        case, row = by_name[verdict.name], wav_rows.get(verdict.name)
        second = judge(out, case, row, "", wav=True)
        verdict.length, verdict.lag = second.length, second.lag
        verdict.wrong += [f"--format wav: {what}" for what in second.wrong]
    wrong = [verdict for verdict in verdicts if verdict.wrong]
    for verdict in wrong:
        print(f"wrong: {verdict.name!r} ({verdict.kind}): {'; '.join(verdict.wrong)}")
    # The run's exit code, and that of one file of each state by itself.
    codes = [("all files", code, max(EXIT_CODES[verdict.state] for verdict in verdicts))]
    for state, expected in EXIT_CODES.items():
        alone = next((v.name for v in verdicts if v.state == state and not v.wrong), None)
        if alone and state != "passed over":  # by itself it is taken
            _, code, _ = denoise([out / "corpus" / alone], out / "alone")
            codes.append((alone, code, expected))
    bad_codes = [row for row in codes if row[1] != row[2]]
    for name, code, expected in bad_codes:
        print(f"wrong: {name!r}: exit code {code}, not {expected}")
    counts = Counter("wrong" if verdict.wrong else verdict.state for verdict in verdicts)
    formats = {verdict.format for verdict in verdicts if verdict.format[0]}
    names = {"whole": "whole", "noted": "noted", "cut": "cut off and named",
             "format": "refused with the --format that works", "passed over": "passed over, named",
             "refused": "unreadable, with a reason", "wrong": "wrong"}
    summary = (f"{len(verdicts)} files of {len(formats)} containers and codecs: "
               + ", ".join(f"{counts[state]} {words}" for state, words in names.items()))
    print(summary)
    (out / "formats.md").write_text(f"{summary}.\n\n{table(verdicts)}")
    return int(bool(wrong or bad_codes))


def denoise(inputs: list[Path], out: Path, *options: str) -> tuple[dict[str, dict], int, str]:
    """Return the report's rows by file name, the exit code, and what was said."""
    shutil.rmtree(out, ignore_errors=True)
    report = out.with_suffix(".csv")
    report.unlink(missing_ok=True)
    program = Path(sys.executable).with_name("gan-denoise")
    done = subprocess.run([program, "denoise", *inputs, "-o", out, "--report", report, *options],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = done.stdout.decode(errors="surrogateescape")
    out.with_suffix(".txt").write_text(said, errors="surrogateescape")
    rows = {}
    if report.exists():
        with open(report, newline="", errors="surrogateescape") as file:
            rows = {Path(row["source"]).name: row for row in csv.DictReader(file)}
    rows = {as_written(out.parent / "corpus" / name).name: row for name, row in rows.items()}
    return rows, done.returncode, said


def as_written(path: Path) -> Path:
    """Return the file of a name in a report, in which bytes that are no UTF-8 are escaped."""
    if path.exists() or not path.parent.exists():
        return path
    return next((other for other in path.parent.iterdir()
                 if other.name.encode("utf-8", "backslashreplace").decode() == path.name), path)


def judge(out: Path, case: dict, row: dict | None, said: str, wav: bool = False) -> Verdict:
    """Return what came of a file, from its row of the report and from its output."""
    name, kind = case["path"], case["kind"]
    verdict = Verdict(name, kind)
    sources = [read(out / "corpus" / name) for name in case["reference"]]
    source = sources[0]
    if source is not None:
        source.audio = np.concatenate([part.audio for part in sources])
        verdict.format = (source.container, source.codec)
    if row is None:
        verdict.state = "passed over"
        if name not in said and Path(name).suffix not in said:
            verdict.wrong.append("not in the report, not named")
        return verdict
    note, error = row.get("note", ""), row["error"]
    if kind != "refused" or name.startswith("cut"):  # it holds a recording
        verdict.wrong += [f"says '{text}'" for text in (note, error) if NEVER.search(text)]
    if row["status"] == "failed":
        verdict.state = "format" if "--format" in error and not wav else "refused"
        if (kind != "refused" and verdict.state == "refused") or not error:
            verdict.wrong.append(f"failed: {error}")
        return verdict
    verdict.written = not wav
    cut = note.startswith("cut off")
    verdict.state = "cut" if cut else "noted" if note else "whole"
    if kind == "refused":
        verdict.wrong.append("done, though there is nothing to read")
    if cut and kind == "whole":
        verdict.wrong.append(f"noted: {note}")
    if (kind == "cut" and not cut) or (kind == "noted" and not note):
        verdict.wrong.append(f"the note should say so, not '{note}'")
    target = read(as_written(Path(row["target"])))
    if target is None or source is None:
        verdict.wrong.append("no output that ffmpeg reads")
        return verdict
    verdict.wrong += compare_format(source, target, wav, row.get("lost", "") + note)
    compare_sound(verdict, source, target, wav)
    return verdict


def compare_format(source: Sound, target: Sound, wav: bool, said: str) -> list[str]:
    """Return in what an output differs from what its input is."""
    names = ["rate", "channels"] + ([] if wav else ["container", "codec", "depth"])
    if source.layout and target.layout and "MASK" not in said:  # some containers hold none
        names.append("layout")
    wrong = [f"{name} {getattr(source, name)} became {getattr(target, name)}" for name in names
             if getattr(source, name) != getattr(target, name)]
    if wav:
        return wrong
    if source.streams != target.streams and not re.search("picture|stream", said):
        wrong.append(f"streams {source.streams} became {target.streams}")
    elif source.pictures != target.pictures and not re.search("picture|stream", said):
        wrong.append("the picture is another")
    if source.pictures and abs(source.start - target.start) > 0.05:
        wrong.append(f"the sound starts at {target.start:.3f} s, not {source.start:.3f}")
    enough = len(source.audio) > 1.5 * source.rate and np.abs(source.audio).max() > AUDIBLE
    if enough and not source.lossless:
        low, high = BIT_RATES
        if not low < target.bit_rate / source.bit_rate < high:
            wrong.append(f"{source.bit_rate / 1000:.0f} kbit/s became {target.bit_rate / 1000:.0f}")
    return wrong


def compare_sound(verdict: Verdict, source: Sound, target: Sound, wav: bool) -> None:
    """Compare length, place, level and speech; write what is found into the verdict."""
    container, codec = ("wav", "pcm") if wav else verdict.format
    keys = (verdict.name, f"{container.split(',')[0]} {codec}", codec)
    length, lag = next((TOLERANCE[key] for key in keys if key in TOLERANCE), (0, 0))
    verdict.length = len(target.audio) - len(source.audio)
    if abs(verdict.length) > length:
        verdict.wrong.append(f"{len(source.audio)} samples became {len(target.audio)}")
    if source.channels != target.channels or len(source.audio) < SHORTEST * source.rate:
        return
    for channel, (before, after) in enumerate(zip(source.audio.T, target.audio.T, strict=True)):
        if channel == LFE and source.channels == 6 and not source.lossless:
            continue  # what is left of a voice below 120 Hz is none
        power = float(np.mean(before**2))
        if power < AUDIBLE**2:
            if np.sqrt(np.mean(after**2)) > AUDIBLE:
                verdict.wrong.append(f"channel {channel + 1} was silent")
            continue
        change = 10 * np.log10(max(float(np.mean(after**2)), 1e-20) / power)
        found, correlation = alignment(before, after)
        verdict.lag = max(verdict.lag, found, key=abs)
        if abs(found) > lag:
            verdict.wrong.append(f"channel {channel + 1} came {found} samples late")
        if correlation < (LEAST_CORRELATION if wav else LEAST_OF.get(codec, LEAST_CORRELATION)):
            verdict.wrong.append(f"channel {channel + 1} correlates by {correlation:.2f}")
        if (hole := first_hole(before, after, found, source.rate)) is not None:
            verdict.wrong.append(f"channel {channel + 1} has no speech at {hole:.1f} s")
        if not LEVEL[0] < change < LEVEL[1]:
            verdict.wrong.append(f"channel {channel + 1} is {change:+.1f} dB")


def alignment(before: np.ndarray, after: np.ndarray) -> tuple[int, float]:
    """Return (samples by which `after` is late, the correlation there)."""
    size = fft.next_fast_len(len(before) + len(after), real=True)
    spectrum = fft.rfft(after, size) * np.conj(fft.rfft(before, size))
    products = fft.irfft(spectrum, size)
    best = int(np.argmax(products))
    scale = max(float(np.linalg.norm(before) * np.linalg.norm(after)), 1e-20)
    return (best if best < len(after) else best - size), float(products[best]) / scale


def first_hole(before: np.ndarray, after: np.ndarray, lag: int, rate: int) -> float | None:
    """Return the second at which speech of the input is not in the output, None for nowhere."""
    size, power = int(BLOCK_SECONDS * rate), np.mean(before**2)
    after = np.concatenate([np.zeros(max(-lag, 0)), after[max(lag, 0):], np.zeros(size)])
    for start in range(0, len(before) - size + 1, size):
        block = before[start:start + size]
        other = after[start:start + size]
        scale = max(float(np.linalg.norm(block) * np.linalg.norm(other)), 1e-20)
        if np.mean(block**2) >= power and (len(other) < size or block @ other / scale
                                           < LEAST_IN_BLOCK):
            return start / rate
    return None


def read(path: Path) -> Sound | None:
    """Return a file decoded by the ffmpeg command line, None where it finds no sound."""
    name = f"file:{path}"
    probed = subprocess.run(["ffprobe", "-v", "error", "-show_entries",
                             "format:stream:packet=size,stream_index", "-of", "json", name],
                            capture_output=True).stdout
    facts = json.loads(probed or b"{}")
    streams = facts.get("streams", [])
    sound = next((s for s in streams if s["codec_type"] == "audio"), None)
    if sound is None:
        return None
    decoded = subprocess.run(["ffmpeg", "-v", "error", "-i", name, "-map", "0:a:0", "-c:a",
                              "pcm_f32le", "-f", "f32le", "-"], capture_output=True).stdout
    pictures = b""
    if any(s["codec_type"] == "video" for s in streams):
        pictures = subprocess.run(["ffmpeg", "-v", "error", "-i", name, "-map", "0:v", "-c", "copy",
                                   "-f", "md5", "-"], capture_output=True).stdout
    audio = np.frombuffer(decoded, "<f4").astype(float).reshape(-1, sound["channels"])
    if "g721" in path.name and sound["codec_name"].startswith("adpcm_g726"):
        audio = sf.read(path, always_2d=True)[0]  # ffmpeg takes the nibbles in another order
    size = sum(int(packet["size"]) for packet in facts["packets"]
               if packet["stream_index"] == sound["index"])
    codec = re.sub("^(pcm_.*)[bl]e$", r"\1", sound["codec_name"])
    return Sound(facts["format"]["format_name"], codec, int(sound["sample_rate"]),
                 sound["channels"], sound.get("channel_layout", ""),
                 (sound["sample_fmt"], sound.get("bits_per_raw_sample", "")),
                 8 * size * int(sound["sample_rate"]) / max(len(audio), 1),
                 float(sound.get("start_time", 0)), audio,
                 " ".join(sorted(s["codec_type"] for s in streams)), pictures.decode())


def table(verdicts: list[Verdict]) -> str:
    """Return the Markdown table of what was read and written, a row a container."""
    groups: dict[str, dict[str, list[Verdict]]] = defaultdict(lambda: defaultdict(list))
    for verdict in verdicts:
        if verdict.format[0] and verdict.kind != "refused":
            groups[verdict.format[0].split(",")[0]][verdict.format[1]].append(verdict)
    lines = ["| container | suffixes | files | read and written | read, written by `--format` |",
             "|---|---|---|---|---|"]
    for container, codecs in sorted(groups.items()):
        files = [verdict for group in codecs.values() for verdict in group]
        suffixes = sorted({Path(v.name).suffix.lower() for v in files if "named" not in v.name})
        kept, other = [], []
        for codec, group in sorted(codecs.items()):
            right = [verdict for verdict in group if not verdict.wrong]
            usual = [verdict for verdict in right if verdict.name not in TOLERANCE]
            facts = [f"{max((getattr(v, name) for v in usual), key=abs):+d} {name}"
                     for name in ("length", "lag") if any(getattr(v, name) for v in usual)]
            facts += [f"{len(group) - len(right)} wrong"] if len(right) < len(group) else []
            told = f"{codec} ({', '.join(facts)})" if facts else codec
            (kept if any(v.written for v in group) else other).append(told)
        lines.append(f"| {container} | {' '.join(suffixes)} | {len(files)} | {', '.join(kept)} "
                     f"| {', '.join(other)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
