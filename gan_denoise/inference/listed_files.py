"""What lies in the folders of a run: a disk is asked each time, an address once for all files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gan_denoise.core.locations import NotThere, is_remote, stamp, stamps
from gan_denoise.inference.folder_journal import is_there, size_at


class ListedFiles:
    """Files below some folders, with their sizes and versions; threads may share it.

    What an address did not have when it was listed is asked for again: another run may have written
    it since. What it had is believed to be there.

    Args:
        roots: The folders; those of this machine are not listed.

    Raises:
        NotThere: When the bucket of an address is missing.
        LocationError: When an address cannot be reached.
    """

    def __init__(self, roots: Iterable[Path] = ()):
        self._stamps: dict[str, tuple[int, int | str]] = {}
        for root in roots:
            if is_remote(root):
                self._stamps |= stamps(root)

    def folders_with(self, name: str) -> set[str]:
        """Return the addresses of the listed folders that hold a file of a name."""
        return {folder for folder, _, last in (address.rpartition("/") for address in self._stamps)
                if last == name}

    def stamp(self, address: Path) -> tuple[int, int | str]:
        """Return the size of a file at an address in bytes, and its version.

        Raises:
            NotThere: When it is missing.
            LocationError: When the address cannot be reached.
        """
        return self._stamps.get(str(address)) or stamp(address, fresh=True)

    def is_there(self, path: Path) -> bool:
        """Return whether there is anything at a path, or a file at an address.

        Raises:
            LocationError: When an address cannot be reached.
        """
        return self.size(path) is not None if is_remote(path) else is_there(path)

    def size(self, path: Path) -> int | None:
        """Return the size of a file in bytes; None where there is none.

        Raises:
            LocationError: When an address cannot be reached.
        """
        if not is_remote(path):
            return size_at(path)
        try:
            return self.stamp(path)[0]
        except NotThere:
            return None
