"""Every flipped bit of what has a checksum is found; what has none is read as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gan_denoise.core.checksums import (
    BLOCK,
    SUMS,
    CheckedBlocks,
    DamagedError,
    block_sums,
    check_sums,
    check_text,
    sealed,
    sealed_text,
    unsealed,
    write_sums,
)

VALUES = {"b": [1, 2.5, None, "ä\udc80"], "a": {"x": 1e-9, "y": True}}
TEXT = "training:\n  steps: 10\n  seed: 3\n"


def flips(content: bytes):
    """Yield the content with each of its bits flipped."""
    for at in range(8 * len(content)):
        changed = bytearray(content)
        changed[at // 8] ^= 1 << at % 8
        yield bytes(changed)


def test_values_come_back_and_a_change_is_found():
    text = json.dumps(sealed(VALUES))
    assert unsealed(json.loads(text), "place") == VALUES
    assert unsealed(VALUES, "place") == VALUES  # of an earlier version
    changed = sealed({"b": 2})
    with pytest.raises(DamagedError):  # its key is damaged, and so might be the rest
        unsealed({"crc3:" if key == "crc32" else key: value
                  for key, value in changed.items()}, "place")
    for changed in flips(text.encode()):
        try:
            values = unsealed(json.loads(changed), "place")
        except ValueError:  # DamagedError is one, as JSON's own are
            continue
        assert {key: value for key, value in values.items() if key in VALUES} == VALUES


def test_settings_come_back_and_a_change_or_a_cut_is_found(tmp_path: Path):
    content = sealed_text(TEXT).encode()
    check_text(content, tmp_path)
    check_text(TEXT.encode(), tmp_path)
    first = content.index(b"\n") + 1
    for changed in flips(content[first:]):
        with pytest.raises(DamagedError, match="checksum"):
            check_text(content[:first] + changed, tmp_path)
    for length in range(first, len(content)):
        with pytest.raises(DamagedError, match="checksum"):
            check_text(content[:length], tmp_path)


def test_a_folder_says_which_of_its_files_is_damaged(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.onnx").write_bytes(b"network")
    (tmp_path / "sub" / "ä b").write_bytes(b"part")
    check_sums(tmp_path, {"model.onnx": None})  # there are none
    write_sums(tmp_path)
    check_sums(tmp_path, {"model.onnx": None, "sub/ä b": b"part"})
    with pytest.raises(DamagedError, match=r"model\.onnx: is not as it was written"):
        check_sums(tmp_path, {"sub/ä b": None, "model.onnx": b"netwurk"})
    (tmp_path / SUMS).write_bytes(b"")
    with pytest.raises(DamagedError):
        check_sums(tmp_path, {"model.onnx": None})


def test_blocks_are_compared_once_each(tmp_path: Path):
    content = bytearray(np.random.default_rng(0).bytes(2 * BLOCK + 10))
    (tmp_path / "file").write_bytes(content)
    blocks = CheckedBlocks(np.array(block_sums(tmp_path / "file"), np.uint32))
    assert list(blocks.unchecked(0, 1)) == [0]
    assert list(blocks.unchecked(BLOCK - 1, 2 * BLOCK + 1)) == [0, 1, 2]
    assert blocks.holds(1, content[BLOCK : 2 * BLOCK])
    assert blocks.holds(2, content[2 * BLOCK :])
    assert list(blocks.unchecked(BLOCK - 1, 2 * BLOCK + 1)) == [0]
    content[5] ^= 1
    assert not blocks.holds(0, content[:BLOCK])
    assert list(blocks.unchecked(0, 1)) == [0]
