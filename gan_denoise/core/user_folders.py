"""Where files of no run go: the user's cache folder, or the temporary folder where there is none.

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

    `$GAN_DENOISE_CACHE`, `$XDG_CACHE_HOME/gan_denoise`, `~/.cache/gan_denoise`, or one in the
    temporary folder that only this user can read.

    Raises:
        OSError: When not even that can be written.
    """
    if own := os.environ.get("GAN_DENOISE_CACHE"):
        return Path(own)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / NAME
    return _home_cache() or _temporary() / NAME


def settle_libraries() -> None:
    """Send what libraries keep in the home to the temporary folder, where the home is of no use."""
    if _home_cache() is not None:
        return
    with contextlib.suppress(OSError):  # then each has a way of its own, or says what is wrong
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


def _home_cache() -> Path | None:
    """Return the cache folder in the home; None where there is none and none can be made."""
    if not _has_home():
        return None
    folder = Path.home() / ".cache" / NAME
    # Not Path.exists: it raises in a folder that may not be entered.
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return folder if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else None


def _temporary() -> Path:
    """Make a folder that only this user can read, another one where it is somebody else's."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"{NAME}-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or (user != "user" and folder.stat().st_uid != user):
        return Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
    folder.chmod(0o700)
    return folder
