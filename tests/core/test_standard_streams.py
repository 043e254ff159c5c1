"""Standard streams that are closed, full, or left by their reader: the work is done anyway."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys

import pytest
from conftest import RATE

from gan_denoise import Enhancer
from gan_denoise.audio.writer import write
from gan_denoise.core.standard_streams import TolerantStream, reason, tolerant_streams
from gan_denoise.data import synthetic_audio
from gan_denoise.inference.model import DEFAULT_MODEL

LOST = ("error: standard output: {}; what was done is kept, what was to be printed is lost\n")
FULL = LOST.format(os.strerror(errno.ENOSPC))
CLOSED = LOST.format("closed")
# Redirection: exit code, what stderr says (None: it is not there).
WAYS = {
    ">&-": (1, CLOSED), ">/dev/full": (1, FULL), "2>&-": (0, None), "2>/dev/full": (0, None),
    "<&-": (0, ""), ">&- 2>&- <&-": (1, None),
}  # fmt: skip

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    clean = 0.3 * synthetic_audio.voice(0, 1.0, seed=0)
    write(root / "clean" / "a.wav", clean, RATE)
    noisy = clean + 0.03 * synthetic_audio.noise("white", 1.0, seed=0)
    write(root / "noisy" / "a.wav", noisy, RATE)
    Enhancer.load().enhance_file(root / "noisy" / "a.wav", root / "same" / "a.wav")
    return root


def gan_denoise(way, *arguments, stdin=subprocess.DEVNULL):
    """Run the command line in a shell that closes or redirects its streams."""
    script = f'exec "$@" {way}'
    words = [sys.executable, "-m", "gan_denoise.cli", *map(str, arguments)]
    return subprocess.run(["sh", "-c", script, "sh", *words], capture_output=True, text=True,
                          stdin=stdin, timeout=120)


def check_end(done, way):
    code, said = WAYS[way]
    assert (done.returncode, done.stderr) == (code, said or ""), done.stderr


# ---- The work is done --------------------------------------------------------------------------
@pytest.mark.parametrize("way", WAYS)
def test_denoise_writes_its_files_and_its_report(pair, tmp_path, way):
    done = gan_denoise(way, "denoise", pair / "noisy", "-o", tmp_path / "out", "--report",
                       tmp_path / "r.json")
    check_end(done, way)
    assert (tmp_path / "out/a.wav").read_bytes() == (pair / "same/a.wav").read_bytes()
    assert (tmp_path / "r.json").stat().st_size > 100


@pytest.mark.parametrize("way", [">&-", ">/dev/full", "2>/dev/full"])
def test_evaluate_writes_its_scores(pair, tmp_path, way):
    done = gan_denoise(way, "evaluate", "--noisy", pair / "noisy", "--clean", pair / "clean", "-j",
                       1, "--out", tmp_path)
    code, said = WAYS[way]
    assert done.returncode == code
    told = f"scores and waveforms in {tmp_path}, page: {tmp_path / 'report.html'}\n"
    assert done.stderr == (f"{told}{said}" if said else "")
    assert (tmp_path / "scores.json").stat().st_size > 100
    assert (tmp_path / DEFAULT_MODEL / "a.wav").is_file()


@pytest.mark.parametrize("way", [">&-", ">/dev/full", "2>&-"])
def test_check_writes_its_findings(pair, tmp_path, way):
    check_end(gan_denoise(way, "check", pair, "--json", tmp_path / "f.json"), way)
    assert (tmp_path / "f.json").stat().st_size > 100


@pytest.mark.parametrize("way", [">&-", ">/dev/full", "2>/dev/full"])
def test_info_says_that_it_said_nothing(way):
    done = gan_denoise(way, "info")
    check_end(done, way)
    assert (f"# {DEFAULT_MODEL}" in done.stdout) == (way == "2>/dev/full")


def test_a_refusal_needs_no_stderr(pair, tmp_path):
    assert gan_denoise("2>&-", "denoise", tmp_path / "none", "-o", tmp_path).returncode == 2


def test_a_reader_that_reads_nothing_costs_nothing(pair, tmp_path):
    read, written = os.pipe()
    os.close(read)  # gone before the first line
    words = [sys.executable, "-m", "gan_denoise.cli", "check", str(pair), "--json",
             str(tmp_path / "f.json")]
    done = subprocess.run(words, stdout=written, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(written)
    assert (done.returncode, done.stderr) == (1, "")
    assert (tmp_path / "f.json").stat().st_size > 100


@pytest.mark.parametrize("way", [">&-", ">/dev/full", "<&-"])
def test_a_pipe_of_which_an_end_is_missing_ends_in_one_line(pair, way):
    with open(pair / "noisy" / "a.wav", "rb") as source:
        done = gan_denoise(way, "denoise", "-", "-o", "-", stdin=source)
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard ")
    assert done.stderr.count("\n") == 1


# ---- The streams -------------------------------------------------------------------------------
class Failing(io.StringIO):
    """Fails from the second write on."""

    def write(self, text):
        if self.getvalue():
            raise OSError(errno.ENOSPC, "full")
        return super().write(text)


def test_what_cannot_be_written_is_lost_and_remembered():
    stream = Failing()
    output = TolerantStream(stream)
    output.write("first")
    assert output.error is None
    print("second", file=output, flush=True)
    print("third", file=output, flush=True)
    assert output.error.errno == errno.ENOSPC
    assert stream.getvalue() == "first"
    assert output.getvalue() == "first"  # all else is the stream's own
    assert reason(OSError(errno.EBADF, "Bad file descriptor")) == "closed"


def test_the_streams_are_given_back(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with tolerant_streams() as output:
        print("a")
        print("b", file=sys.stderr)
    assert (sys.stdout, sys.stderr) == (out, err)
    assert (out.getvalue(), err.getvalue()) == ("a\n", "b\n")
    assert output.error is None


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """Else what a library prints to descriptor 2 goes into the next file that is opened."""
    code = ("import os\nfrom gan_denoise.core.standard_streams import tolerant_streams\n"
            f"with tolerant_streams():\n    kept = open({str(tmp_path / 'kept')!r}, 'wb')\n"
            "    for number in (0, 1, 2):\n"
            "        try: os.write(number, b'noise')\n        except OSError: pass\n"
            "    assert kept.fileno() > 2\n")
    words = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(words, timeout=60).returncode == 0
    assert (tmp_path / "kept").read_bytes() == b""
