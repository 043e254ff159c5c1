"""Mixtures: the SNR as asked for, in arrays and in files; nothing clips, nothing half-written."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from gan_denoise.audio import read_mono
from gan_denoise.config.schema import DataConfig
from gan_denoise.core import file_locks
from gan_denoise.core.checksums import unsealed
from gan_denoise.core.errors import OutputError
from gan_denoise.core.locations import OutsideError
from gan_denoise.data import mixture_folder
from gan_denoise.data.corpus import build_corpus, write_corpus
from gan_denoise.data.mixing import MixError, snr_gain
from gan_denoise.data.mixture_writer import MixtureSpec, mix_at_snr, write_pairs
from gan_denoise.data.texts import Texts

RATE = 16000


def _noise(seconds: float, seed: int, level: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-level, level, round(seconds * RATE)).astype("f4")


def _snr(clean: np.ndarray, noisy: np.ndarray) -> float:
    clean, noisy = clean.astype(float), noisy.astype(float)
    return float(10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2)))


class TestMixAtSnr:
    @pytest.mark.parametrize("snr_db", [-15.0, 0.0, 12.5, 40.0])
    def test_exact_even_where_one_gain_prevents_clipping(self, snr_db):
        clean, added = _noise(1.0, 0, 0.9), _noise(1.0, 1, 0.9)
        noisy, scaled, gain = mix_at_snr(clean, clean, added, snr_db)
        assert _snr(scaled, noisy) == pytest.approx(snr_db, abs=0.01)
        assert max(np.abs(noisy).max(), np.abs(scaled).max()) <= 1.0
        np.testing.assert_allclose(scaled, clean * np.float32(gain))
        assert (gain < 1.0) == (snr_db < 30.0)

    def test_quiet_sum_keeps_its_level(self):
        clean = _noise(0.5, 0, 0.1)
        _, same, gain = mix_at_snr(clean, clean, _noise(0.5, 1, 0.1), 0.0)
        assert gain == 1.0
        np.testing.assert_array_equal(same, clean)

    def test_noise_that_sixteen_bits_would_round_away_is_raised(self):
        clean = _noise(0.5, 0, 0.1)
        noisy, scaled, gain = mix_at_snr(clean, clean, _noise(0.5, 1), 70.0)
        assert gain > 1.0
        kept = np.rint(noisy * 32768) - np.rint(scaled * 32768)
        assert 20 * np.log10(np.std(kept / 32768)) == pytest.approx(-78, abs=1.5)
        assert _snr(scaled, noisy) == pytest.approx(70.0, abs=0.01)

    def test_silence_and_other_lengths_are_refused(self):
        loud, silent = _noise(0.1, 0), np.zeros(1600, "f4")
        with pytest.raises(MixError, match="noise is silent"):
            snr_gain(loud, silent, 0.0)
        with pytest.raises(MixError, match="clean is silent"):
            mix_at_snr(silent, silent, loud, 0.0)
        with pytest.raises(ValueError, match="shape"):
            mix_at_snr(loud, loud, loud[:-1], 0.0)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for speaker in ("anna", "bert"):
        for number in range(3):
            path = tmp_path / "speech" / speaker / f"u{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            level = 1e-3 if number == 2 else 0.9
            soundfile.write(path, _noise(0.5 + 0.4 * number, number, level), RATE)
    for kind in ("rain", "dog"):
        path = tmp_path / "noise" / kind / "n.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, _noise(0.7, 9), RATE)
    return tmp_path / "speech", tmp_path / "noise"


class TestWritePairs:
    def _write(self, folders, out: Path, *, snrs=(-5.0, 0.0, 25.0), rir=(), progress=None, **spec):
        return write_pairs([folders[0]], [folders[1]], out, MixtureSpec(RATE, snrs, **spec),
                           rir_folders=rir, cache=out.parent / "cache", progress=progress)

    def test_snr_of_the_files_is_that_of_the_manifest(self, folders, tmp_path):
        out = tmp_path / "out"
        rows = self._write(folders, out)
        written = json.loads((out / "manifest.json").read_text())
        assert [unsealed(row, "manifest") for row in written] == rows
        assert [row["snr_db"] for row in rows] == [-5.0, 0.0, 25.0] * 2
        assert {row["file"] for row in rows} == {f"{s}/u{n}.wav" for s in ("anna", "bert")
                                                  for n in range(3)}
        for row in rows:
            noisy = read_mono(out / "noisy" / row["file"], RATE)
            clean = read_mono(out / "clean" / row["file"], RATE)
            assert soundfile.info(out / "noisy" / row["file"]).subtype == "PCM_16"
            assert _snr(clean, noisy) == pytest.approx(row["snr_db"], abs=0.1)
            assert row["seconds"] == pytest.approx(len(clean) / RATE, abs=1e-3)
            assert row["speaker"] == row["file"].partition("/")[0]
            assert row["noise"] in ("rain", "dog")
            assert row["noise_file"] == f"{row['noise']}/n.flac"
            original = read_mono(folders[0] / row["speech"], RATE)
            np.testing.assert_allclose(clean, original * row["gain"], atol=1e-4)
        assert sorted(p.name for p in out.iterdir()) == ["clean", "manifest.json", "noisy"]

    def test_same_seed_same_files_and_count_goes_around(self, folders, tmp_path):
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            rows = self._write(folders, tmp_path / name, seed=seed, count=8)
        assert len(rows) == len({row["file"] for row in rows}) == 8
        first, again, other = (
            b"".join(p.read_bytes() for p in sorted((tmp_path / n / "noisy").rglob("*.wav")))
            for n in "abc"
        )
        assert first == again
        assert first != other

    def test_fewer_than_all_and_a_fixed_length(self, folders, tmp_path):
        seen = []
        rows = self._write(folders, tmp_path / "out", count=4, seconds=1.5,
                           progress=lambda *p: seen.append(p))
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert {row["seconds"] for row in rows} == {1.5}

    def test_rooms(self, folders, tmp_path):
        response = np.zeros(4000, "f4")
        response[50], response[3000] = 1.0, 0.5
        (tmp_path / "rir").mkdir()
        soundfile.write(tmp_path / "rir" / "hall.wav", response, RATE, subtype="FLOAT")
        rows = self._write(folders, tmp_path / "out", rir=[tmp_path / "rir"], count=12)
        assert {row["rir"] for row in rows} == {None, "hall.wav"}

    def test_a_recipe_sums_noises_and_keeps_the_snr(self, folders, tmp_path):
        data = DataConfig(noises=(2, 2), babble=1.0, coloured=0.5)
        rows = self._write(folders, tmp_path / "out", snrs=(3.0,), recipe=data, count=8)
        parts = [row["noise"].split(" + ") for row in rows]
        assert all("babble" in part and len(part) >= 3 for part in parts)
        assert len({"coloured" in part for part in parts}) == 2
        assert all(len(row["noise_file"].split(" + ")) == 2 for row in rows)
        for row in rows:
            clean, noisy = (read_mono(tmp_path / "out" / side / row["file"], RATE)
                            for side in ("clean", "noisy"))
            assert _snr(clean, noisy) == pytest.approx(3.0, abs=0.05)

    def test_refuses_what_is_there_and_leaves_nothing_after_an_error(self, folders, tmp_path):
        out = tmp_path / "out"

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self._write(folders, out, progress=stop)
        assert not list(out.iterdir())
        self._write(folders, out)
        with pytest.raises(OutputError, match="noisy"):
            self._write(folders, out)

    @pytest.mark.parametrize(("wrong", "reason"), [
        ({"snrs": ()}, "not none"), ({"snrs": (0.0, math.nan)}, "not 0, nan"),
        ({"snrs": (math.inf,)}, "not inf"), ({"snrs": (-101.0,)}, "not -101"),
        ({"seconds": 0.0}, "0 s"), ({"seconds": -1.0}, "-1 s"), ({"seconds": math.nan}, "nan s"),
    ])
    def test_what_cannot_be_mixed_is_one_line_and_no_folder(self, folders, tmp_path, wrong, reason):
        with pytest.raises(MixError, match=reason):
            self._write(folders, tmp_path / "out", **wrong)
        assert not (tmp_path / "out").exists()

    def test_a_silent_part_of_a_recording_is_named(self, folders, tmp_path):
        path = next(folders[0].rglob("*.wav"))
        click = np.zeros(60 * RATE, "f4")
        click[0] = 0.5
        soundfile.write(path, click, RATE)
        with pytest.raises(MixError, match=f"{path.name}: clean is silent.*longer parts"):
            self._write(folders, tmp_path / "out", seconds=0.1)

    def test_names_of_a_corpus_cannot_leave_the_folder(self, folders, tmp_path, monkeypatch):
        write_corpus([folders[0]], tmp_path / "corpus", RATE, jobs=1)
        hostile = build_corpus([tmp_path / "corpus"], RATE)
        hostile = dataclasses.replace(hostile, names=Texts.of(
            ["u0.wav", "../../victim.wav", *(f"u{n}.wav" for n in range(2, len(hostile)))]))
        monkeypatch.setattr(
            "gan_denoise.data.mixture_writer.build_corpus",
            lambda given, *rest: hostile if given == [folders[0]] else build_corpus(given, *rest))
        with pytest.raises(OutsideError, match=r"victim\.wav.* not in that folder"):
            self._write(folders, tmp_path / "out")
        assert not list(tmp_path.rglob("victim*"))


@pytest.mark.skipif(not file_locks.CAN_LOCK, reason="nothing is removed without locks")
class TestKilled:
    """Mixtures of a process that is killed when it has made all, but not renamed all."""

    def _write(self, folders, out: Path, seed: int = 0, notes: list[str] | None = None):
        return write_pairs([folders[0]], [folders[1]], out, MixtureSpec(RATE, (0.0,), seed=seed),
                           cache=out.parent / "cache",
                           notice=None if notes is None else notes.append)

    def _killed(self, folders, out: Path, renames: int) -> None:
        """Write in a process that is killed when it has renamed some of the three."""
        self._write(folders, out.parent / "first")  # so that all is decoded
        pid = os.fork()
        if not pid:
            def replace(source: Path, target: Path) -> None:
                done = [name for name in os.listdir(out) if not name.startswith(".")]
                if target.parent == out and len(done) == renames:
                    os.kill(os.getpid(), signal.SIGKILL)
                os.rename(source, target)

            mixture_folder.os = SimpleNamespace(replace=replace)
            self._write(folders, out)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL

    @pytest.mark.parametrize("renames", [0, 1, 2])
    def test_the_same_command_completes_them(self, folders, tmp_path, renames):
        out, notes = tmp_path / "out", []
        self._killed(folders, out, renames)
        assert len(os.listdir(out)) == renames + 1
        made = _times(out)
        rows = self._write(folders, out, notes=notes)
        assert [note for note in notes if "nothing was made anew" in note] == notes != []
        assert _contents(out) == _contents(tmp_path / "first")
        assert _times(out) == made
        assert len(made) == 12
        assert rows == self._write(folders, tmp_path / "again")

    def test_another_command_completes_them_and_refuses(self, folders, tmp_path):
        self._killed(folders, tmp_path / "out", 1)
        with pytest.raises(OutputError, match="noisy: is there already"):
            self._write(folders, tmp_path / "out", seed=7)
        assert _contents(tmp_path / "out") == _contents(tmp_path / "first")

    def test_a_folder_of_the_user_in_their_place_stays(self, folders, tmp_path):
        out = tmp_path / "out"
        self._killed(folders, out, 1)
        shutil.rmtree(out / "noisy")
        (out / "noisy").mkdir()
        (out / "noisy" / "mine.wav").write_text("mine")
        hidden = next(out.glob(".mixing.*"))
        with pytest.raises(OutputError, match="noisy: is there already"):
            self._write(folders, out)
        assert (out / "noisy" / "mine.wav").read_text() == "mine"
        assert not (out / "clean").exists()
        assert len(list((hidden / "clean").rglob("*.wav"))) == 6
        shutil.rmtree(out / "noisy")  # the other half alone is of no use: all is made anew
        self._write(folders, out)
        assert _contents(out) == _contents(tmp_path / "first")

    def test_what_was_killed_before_all_was_made_is_made_anew(self, folders, tmp_path):
        out = tmp_path / "out"
        pid = os.fork()
        if not pid:
            write_pairs([folders[0]], [folders[1]], out, MixtureSpec(RATE, (0.0,)),
                        cache=tmp_path / "cache",
                        progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            os._exit(1)
        os.waitpid(pid, 0)
        assert len(os.listdir(out)) == 1
        self._write(folders, out)
        assert sorted(os.listdir(out)) == ["clean", "manifest.json", "noisy"]

    def test_a_rename_that_fails_leaves_none_of_them(self, folders, tmp_path, monkeypatch):
        out = tmp_path / "out"

        def replace(source: Path, target: Path) -> None:
            if target == out / "clean":
                raise OSError(5, "Input/output error")
            os.rename(source, target)

        monkeypatch.setattr(mixture_folder, "os", SimpleNamespace(
            replace=replace, rename=os.rename))
        with pytest.raises(OSError, match="Input/output"):
            self._write(folders, out)
        assert os.listdir(out) == []


def _contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes()
            for path in out.rglob("*") if path.is_file()}


def _times(out: Path) -> dict[tuple[str, ...], int]:
    """When each file was written, by its side, speaker and name, wherever its folder is."""
    return {path.parts[-3:]: path.stat().st_mtime_ns for path in out.rglob("*.wav")}
