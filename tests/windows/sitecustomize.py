"""Lets the package see of Python what there is of it on Windows: with this folder in PYTHONPATH.

Every process that is started sees the same. What `gan_denoise` imports as `os` and `signal` lacks
the names that Python's documentation gives for Unix only; `fcntl`, `resource` and the like cannot
be imported by it. For all code of the process: a file that is open or mapped cannot be removed,
renamed or replaced, nothing is renamed to a name that is there, a folder cannot be opened, text is
written with line ends of two characters, and the streams are those of code page 1252.

Sources: Python's documentation of os, signal, msvcrt; Windows' of CreateFile and MoveFileEx.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import signal
import stat
import types

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline",
           "_posixshmem", "_posixsubprocess", "posix"}
SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM"}
FUNCTIONS_OF_SIGNAL = {"Signals", "Handlers", "SIG_DFL", "SIG_IGN", "default_int_handler",
                       "getsignal", "raise_signal", "set_wakeup_fd", "signal", "strsignal",
                       "valid_signals"}
OS_OF_UNIX = """
abc chown chroot confstr confstr_names copy_file_range ctermid EFD_CLOEXEC environb eventfd
fchdir fchmod fchown fdatasync fork forkpty fpathconf fstatvfs fwalk get_blocking getegid geteuid
getgid getgrouplist getgroups getloadavg getpgid getpgrp getpriority getresgid getresuid getsid
getuid getxattr grantpt initgroups killpg lchown listxattr lockf login_tty major makedev
memfd_create minor mkfifo mknod nice O_ASYNC O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC O_LARGEFILE
O_NDELAY O_NOATIME O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH O_RSYNC O_SYNC O_TMPFILE openpty pathconf
pidfd_open pipe2 posix_fadvise posix_fallocate posix_openpt posix_spawn posix_spawnp pread preadv
pwrite pwritev readv register_at_fork removexattr sched_get_priority_max sched_get_priority_min
sched_getaffinity sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
sched_setparam sched_setscheduler sched_yield sendfile set_blocking setegid seteuid setgid setgroups
setpgid setpgrp setpriority setregid setresgid setresuid setreuid setsid setuid setxattr splice
statvfs statvfs_result sync sysconf sysconf_names tcgetpgrp tcsetpgrp ttyname uname unshare wait
wait3 wait4 waitid writev WCONTINUED WNOHANG WUNTRACED
"""


class _Seen(types.ModuleType):
    """A module of which some names are missing."""

    def __init__(self, module: types.ModuleType, keeps, **own: object):
        super().__init__(module.__name__)
        self.__dict__.update(own, _module=module, _keeps=keeps)

    def __getattr__(self, name: str) -> object:
        if not self._keeps(name):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} on Windows")
        return getattr(self._module, name)


def _kill(pid: int, number: int) -> None:
    """Windows ends the process whatever the number is."""
    os.kill(pid, signal.SIGKILL)


SEEN = {
    "os": _Seen(os, lambda name: name not in OS_OF_UNIX.split(), name="nt", kill=_kill),
    "signal": _Seen(signal, lambda name: (
        name in SIGNALS | FUNCTIONS_OF_SIGNAL or name.startswith("__"))),
}
_import = builtins.__import__


def _import_seen(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if level == 0 and importer.split(".")[0] == "gan_denoise":
        if name.split(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
        if name in SEEN:
            return SEEN[name]
    return _import(name, globals, locals, fromlist, level)


# ---- Files that are open -----------------------------------------------------------------------
def _is_open(path: str) -> bool:
    """Whether this process has a file open or mapped; a folder: whether any file below it is."""
    whole = os.path.realpath(path)
    below = whole + os.sep
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            if target == whole or target.startswith(below):
                return True
    with open("/proc/self/maps", errors="surrogateescape") as maps:
        names = [line.split(maxsplit=5)[5].rstrip("\n") for line in maps if line.count("/")]
    return any(name == whole or name.startswith(below) for name in names)


def _path_of(path: object, dir_fd: int | None) -> str:
    path = os.fsdecode(path)
    if dir_fd is not None:
        path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
    return path


def _refuse_open(path: str) -> None:
    if not os.path.islink(path) and _is_open(path):
        raise PermissionError(errno.EACCES, "The process cannot access the file because it is "
                              "being used by another process", path)


def _removing(function):
    def remove(path, *, dir_fd=None):
        _refuse_open(_path_of(path, dir_fd))
        return function(path, dir_fd=dir_fd)
    return remove


def _moving(function, replaces: bool):
    def move(src, dst, *, src_dir_fd=None, dst_dir_fd=None):
        source, target = _path_of(src, src_dir_fd), _path_of(dst, dst_dir_fd)
        _refuse_open(source)
        if os.path.lexists(target):
            if not replaces:
                raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already "
                                      "exists", source, None, target)
            if os.path.isdir(target):
                raise PermissionError(errno.EACCES, "Access is denied", source, None, target)
            _refuse_open(target)
        return function(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
    return move


def _opening(function):
    def open_file(path, flags, mode=0o777, *, dir_fd=None):
        descriptor = function(path, flags, mode, dir_fd=dir_fd)
        if not flags & os.O_DIRECTORY and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return descriptor
    return open_file


def _writing_text(function):
    def open_text(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None,
                  closefd=True, opener=None):
        if newline is None and "b" not in mode and set(mode) & set("wax+"):
            newline = "\r\n"
        return function(file, mode, buffering, encoding, errors, newline, closefd, opener)
    return open_text


def install() -> None:
    """Put all of it in place."""
    builtins.__import__ = _import_seen
    rename, replace, unlink, open_file = os.rename, os.replace, os.unlink, os.open
    os.rename, os.replace = _moving(rename, False), _moving(replace, True)
    os.unlink = os.remove = _removing(unlink)
    os.open = _opening(open_file)
    builtins.open = io.open = _writing_text(builtins.open)


if os.name == "posix":
    install()
