"""Many strings in a few NumPy arrays: a million names cost no million Python objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, cast

import numpy as np

T = TypeVar("T", bound=str | None)


class Texts(Sequence[T]):
    """A read-only sequence of strings, or of None where there is none.

    Args:
        blob: uint8 `[bytes]`, UTF-8 of all different strings, behind each other.
        ends: int64 `[strings]`, where each one ends in `blob`.
        codes: int `[items]`, the string of each item; -1: None.
    """

    def __init__(self, blob: np.ndarray, ends: np.ndarray, codes: np.ndarray):
        self.blob, self.ends, self.codes = blob, ends, codes

    @classmethod
    def of(cls, items: Iterable[T]) -> Texts[T]:
        """Return the same items, each different one stored once."""
        known: dict[str, int] = {}
        codes = np.fromiter((-1 if item is None else known.setdefault(item, len(known))
                             for item in items), dtype=np.int32)
        encoded = [item.encode("utf-8", "surrogateescape") for item in known]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends, codes)

    @classmethod
    def join(cls, parts: Sequence[Texts[T]]) -> Texts[T]:
        """Return the items of several, behind each other."""
        bytes_before = np.cumsum([0, *(len(part.blob) for part in parts)])
        texts_before = np.cumsum([0, *(len(part.ends) for part in parts)])
        return cls(
            np.concatenate([part.blob for part in parts]),
            np.concatenate([part.ends + before
                            for part, before in zip(parts, bytes_before, strict=False)]),
            np.concatenate([np.where(part.codes < 0, -1, part.codes + before)
                            for part, before in zip(parts, texts_before, strict=False)]),
        )

    def take(self, indices: np.ndarray) -> Texts[T]:
        """Return some of the items; the strings are shared."""
        return Texts(self.blob, self.ends, self.codes[indices])

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int) -> T:  # of slices, `take` has the arguments
        code = int(self.codes[index])
        if code < 0:
            return cast("T", None)
        begin = int(self.ends[code - 1]) if code else 0
        return cast("T", _decode(self.blob[begin:int(self.ends[code])].tobytes()))

    def __iter__(self) -> Iterator[T]:
        blob, ends = self.blob.tobytes(), self.ends.tolist()
        begins = [0, *ends[:-1]]
        known: dict[int, str | None] = {-1: None}  # so that equal items are one object
        for code in self.codes.tolist():
            if code not in known:
                known[code] = _decode(blob[begins[code]:ends[code]])
            yield cast("T", known[code])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")
