"""The user's cache folder, or the temporary folder where there is none.

In a container there may be no HOME, a user without an entry, or a home that cannot be written.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

NAME = "gan_denoise"
# Where libraries would make folders in the home, and fail, warn, or make one called `~`.
LIBRARIES = {"XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "config", "KERAS_HOME": "keras",
             "MPLCONFIGDIR": "matplotlib", "NUMBA_CACHE_DIR": "numba"}


def cache_folder() -> Path:
    """Return the folder for decoded audio that is used when none is named.

    `$GAN_DENOISE_CACHE`, `$XDG_CACHE_HOME/gan_denoise`, the system's place for caches
    (`~/.cache/gan_denoise` on Linux, `~/Library/Caches/gan_denoise` on macOS,
    `%LOCALAPPDATA%/gan_denoise/Cache` on Windows), or a folder in the temporary folder that only
    this user can read.

    Raises:
        OSError: When not even that can be written.
    """
    if own := os.environ.get("GAN_DENOISE_CACHE"):
        return Path(own)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / NAME
    if _has_home():
        import platformdirs  # not at the start: most commands need no cache

        folder = platformdirs.user_cache_path(NAME, appauthor=False)
        if _can_be_made(folder):
            return folder
    return _temporary() / NAME


def settle_libraries() -> None:
    """Send what libraries keep in the home to the temporary folder, where the home is of no use."""
    if _has_home() and _can_be_made(Path.home() / ".cache" / NAME):
        return
    with contextlib.suppress(OSError):  # the libraries then do what they would have done
        folder = _temporary()
        for variable, name in LIBRARIES.items():
            os.environ.setdefault(variable, os.fspath(folder / name))
        if not _has_home():
            os.environ["HOME"] = os.fspath(folder)


def _has_home() -> bool:
    """Whether there is HOME, or an entry of the user; some libraries fail without either."""
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def _can_be_made(folder: Path) -> bool:
    """Whether a folder can be written, or be made where it is not there yet."""
    # Not Path.exists: it raises in a folder that may not be entered.
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _temporary() -> Path:
    """Make a folder that only this user can read, another one where it is somebody else's."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"{NAME}-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or (user != "user" and folder.stat().st_uid != user):
        return Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
    folder.chmod(0o700)
    return folder
