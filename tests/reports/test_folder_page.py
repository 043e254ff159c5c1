"""The page of a folder run: what it says, what is heard, and that its size is bounded."""

from __future__ import annotations

import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gan_denoise import examples
from gan_denoise.config.schema import AudioConfig, MelConfig
from gan_denoise.dsp.mel import Mel
from gan_denoise.inference.results import FileResult
from gan_denoise.reports.folder_page import (
    MOST_ROWS,
    SAMPLES,
    RunFacts,
    choose,
    distribution,
    write_folder_page,
)

MEL = Mel(AudioConfig(), MelConfig())


def done(name, drop=10.0, **figures):
    """The result of a file of five seconds."""
    return FileResult(Path("in", name), Path("out", name), seconds=5.0, sample_rate=16000,
                      channels=1, peak_in_db=-3.0, peak_out_db=-4.0, noise_floor_drop_db=drop,
                      **figures)


def failed(name, reason):
    """The result of a file without an output."""
    source = Path("in", name)
    return FileResult(source, Path("out", name), "failed", error=f"{source}: {reason}")


def page_of(results, tmp_path, **facts):
    """The text of the page of some results."""
    facts = RunFacts(Path("out"), MEL, {"model": "hush"}, **({"files": len(results)} | facts))
    return write_folder_page(results, facts, tmp_path / "page.html").read_text(encoding="utf-8")


def rows_of(page, heading):
    """The cells of the first table below a heading."""
    _, _, below = page.partition(f">{heading}<")
    body = below[below.index("<tbody>") : below.index("</tbody>")]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in body.split("<tr>")[1:]]


def test_it_counts_and_says_why(tmp_path):
    results = [done("a.wav"), done("b.wav", status="skipped"), failed("c.wav", "is empty"),
               failed("d.wav", "is empty"), failed("e.wav", "holds NaN"),
               done("f.wav", clipped=7, lost=("album", "cover")), done("g.wav", lost=("album",)),
               done("h.wav", cut_off="2 s of 5 s are there", note="wrong header")]
    page = page_of(results, tmp_path, passed_over={"temporary name": [Path("x.part.wav")]})
    assert "4 done, 1 skipped, 3 failed" in page
    assert rows_of(page, "Failed") == [["is empty", "2", "in/c.wav, in/d.wav"],
                                       ["holds NaN", "1", "in/e.wav"]]
    assert rows_of(page, "Not taken") == [["temporary name", "1", "x.part.wav"]]
    assert rows_of(page, "Cut off") == [["2 s of 5 s are there", "1", "in/h.wav"]]
    assert rows_of(page, "Clipped") == [["in/f.wav", "7", "-4"]]
    assert rows_of(page, "Not kept") == [["album", "2", "in/f.wav, in/g.wav"],
                                         ["cover", "1", "in/f.wav"]]
    assert rows_of(page, "Unusual") == [["wrong header", "1", "in/h.wav"]]
    assert [row[:2] for row in rows_of(page, "Files")] == [
        [str(result.source), result.status] for result in results]
    assert "Stopped after" not in page


def test_a_section_without_content_is_left_out(tmp_path):
    page = page_of([done("a.wav")], tmp_path)
    for heading in ("Failed", "Not taken", "Worth a look", "Clipped"):
        assert f">{heading}<" not in page


def test_a_run_that_was_stopped_says_how_far_it_came(tmp_path):
    page = page_of([done("a.wav"), done("b.wav")], tmp_path, files=9, stopped=True)
    assert "Stopped after 2 of 9 files." in page
    assert "Stopped after 0 of 9 files." in page_of([], tmp_path, files=9, stopped=True)


def test_files_are_heard_before_and_after(tmp_path):
    source, target = tmp_path / "noisy.flac", tmp_path / "cleaned.flac"
    shutil.copy(examples.noisy_speech(), source)
    shutil.copy(examples.clean_speech(), target)
    result = replace(done("x"), source=source, target=target)
    gone = replace(result, source=tmp_path / "gone.flac", noise_floor_drop_db=3.0)
    page = page_of([result, gone], tmp_path)
    assert page.count('class="player"') == 1
    assert len(re.findall(r'data-audio="data:audio/mpeg;base64,[\w+/=]{1000,}"', page)) == 2
    assert len(re.findall(r'src="data:image/webp;base64,[\w+/=]{100,}"', page)) == 2
    assert "gone.flac" in page
    assert "cannot be heard here" in page


def test_names_cannot_become_markup_and_nothing_is_loaded_from_elsewhere(tmp_path):
    page = page_of([done("<script>alert(1)</script>.wav"), failed("b\n\udcff.wav", "<b>bad</b>")],
                   tmp_path)
    assert "<script>alert" not in page
    assert "<b>bad" not in page
    assert "b\\n\\udcff.wav" in page
    assert all(address.startswith(("data:", "#"))
               for address in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "http://" not in page
    assert "https://" not in page


def test_a_hundred_thousand_files_make_a_small_page_that_says_how_many_more(tmp_path):
    many = [done(f"{number}.wav", drop=number % 40, clipped=number % 2, note=f"note {number % 900}")
            for number in range(90_000)]
    many += [failed(f"{number}.wav", f"broken at byte {number}") for number in range(10_000)]
    page = page_of(many, tmp_path)
    assert len(page) < 1_000_000
    assert "90000 done, 0 skipped, 10000 failed" in page
    assert f"And {10_000 - MOST_ROWS} more" in page  # reasons
    assert f"And {45_000 - MOST_ROWS} more" in page  # clipped
    assert f"And {100_000 - MOST_ROWS} more" in page  # files
    assert len(rows_of(page, "Files")) == MOST_ROWS


# ---- What is chosen ----------------------------------------------------------------------------
def test_files_to_hear_go_from_the_largest_drop_to_the_smallest():
    results = [done(f"{drop}.wav", drop=float(drop)) for drop in range(100)]
    chosen = [result.noise_floor_drop_db for result in choose([*results, done("silence", None)])]
    assert len(chosen) == SAMPLES
    assert chosen == sorted(chosen, reverse=True)
    assert (chosen[0], chosen[-1]) == (99, 0)
    assert max(a - b for a, b in itertools.pairwise(chosen)) <= 10
    assert len(choose(results[:3])) == 3
    assert choose([]) == []


def test_the_distribution_counts_each_file_once():
    assert distribution([0.2, 0.9, 1.5, 3.0]) == [
        ("0 to 1", 2, 1.0), ("1 to 2", 1, 0.5), ("2 to 3", 0, 0.0), ("3 to 4", 1, 0.5)]
    assert distribution([]) == []
    drops = [-7.5 + 0.61 * number for number in range(150)]
    bars = distribution(drops)
    assert sum(count for _, count, _ in bars) == 150
    assert 5 < len(bars) <= 15
    assert max(share for *_, share in bars) == pytest.approx(1.0)
