"""Attacks of `torture_faults` on the disk, on system calls, and on the places that a user has."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from torture_checks import Fault, again, check_after
from torture_verbs import Verb, clear, start

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
/* FAULT_CALL (rename, write, fsync, open) fails with FAULT_ERRNO below FAULT_PATH, from its
   FAULT_FROM-th time on, FAULT_TIMES times. FAULT_CLOCK: seconds by which the clock jumps when it
   has been asked FAULT_FROM times. */
static long seen;
static int fails(const char *call, const char *path) {
    const char *name = getenv("FAULT_CALL"), *below = getenv("FAULT_PATH");
    if (!name || !below || strcmp(name, call) || !path || strncmp(path, below, strlen(below)))
        return 0;
    long from = atol(getenv("FAULT_FROM")), n = __sync_fetch_and_add(&seen, 1);
    if (n < from || n >= from + atol(getenv("FAULT_TIMES"))) return 0;
    errno = atoi(getenv("FAULT_ERRNO"));
    return 1;
}
static const char *path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n < 0) return NULL;
    path[n] = 0;
    return path;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    const char *jump = getenv("FAULT_CLOCK");
    if (jump && clock == CLOCK_REALTIME
            && __sync_fetch_and_add(&seen, 1) >= atol(getenv("FAULT_FROM")))
        now->tv_sec += atol(jump);
    return failed;
}
int rename(const char *a, const char *b) {
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    return fails("rename", b) ? -1 : real(a, b);
}
int renameat(int x, const char *a, int y, const char *b) {
    int (*real)(int, const char *, int, const char *) = dlsym(RTLD_NEXT, "renameat");
    return fails("rename", b) ? -1 : real(x, a, y, b);
}
ssize_t write(int fd, const void *data, size_t size) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    char path[PATH_MAX];
    if (getenv("FAULT_CALL") && fd > 2 && fails("write", path_of(fd, path))) return -1;
    return real(fd, data, size);
}
int fsync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    char path[PATH_MAX];
    if (getenv("FAULT_CALL") && fails("fsync", path_of(fd, path))) return -1;
    return real(fd);
}
int open64(const char *path, int flags, ...) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    va_list rest;
    va_start(rest, flags);
    int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, int) : 0;
    va_end(rest);
    if ((flags & (O_WRONLY | O_RDWR)) && fails("open", path)) return -1;
    return real(path, flags, mode);
}
"""
ERRORS = {"rename": ("ENOSPC", "EIO", "EACCES", "EXDEV"), "write": ("ENOSPC", "EIO"),
          "fsync": ("ENOSPC", "EIO"), "open": ("ENOSPC", "EACCES", "EIO")}


DAY = 86400  # seconds


def under_shim() -> bool:
    """Begin this program again with the shim loaded; return whether it is loaded, or cannot be."""
    if "torture_shim" in os.environ.get("LD_PRELOAD", ""):
        return True
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    (folder / "shim.c").write_text(SHIM)
    built = shutil.which("gcc") and subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-o", folder / "torture_shim.so", folder / "shim.c",
         "-ldl"], capture_output=True)
    if not built or built.returncode:
        print("calls: no C compiler that builds the shim; leave it out of --only")
        return False
    os.environ["LD_PRELOAD"] = str(folder / "torture_shim.so")
    os.execv(sys.executable, [sys.executable, *sys.argv])


def calls(verbs: list[Verb], out: Path, rng: random.Random, tries: int, fault: Fault) -> int:
    """Let a system call fail below the output, once or from then on."""
    import errno

    done = 0
    cases = [(call, name, times) for call, names in ERRORS.items() for name in names
             for times in (1, 10**6)]
    for verb in verbs:
        if verb.piped:
            continue
        for call, name, times in rng.sample(cases, min(max(tries // 5, 1), len(cases))):
            clear(out / "work")
            code, text = start(verb, out / "material", out / "work", {
                "FAULT_CALL": call, "FAULT_ERRNO": str(getattr(errno, name)),
                "FAULT_FROM": str(rng.choice((0, 0, 1, 2, 4))), "FAULT_TIMES": str(times),
                "FAULT_PATH": str(out / "work")}).end()
            done += 1
            check_after(verb, out, fault, f"{call} {name} x {times}", code, text)
    return done


def clocks(verbs: list[Verb], out: Path, rng: random.Random, tries: int, fault: Fault) -> int:
    """Let the clock jump amid a command that may be killed, or have been set back since."""
    done = 0
    for verb in verbs:
        for number in range(max(tries // 12, 1)):
            clear(out / "work")
            days = (0, 1, -1, 3650)[number % 4]
            run = start(verb, out / "material", out / "work", {
                "FAULT_CLOCK": str(days * DAY), "FAULT_FROM": str(rng.randrange(200))})
            if number % 2 == 0:
                run.kill(signal.SIGKILL, rng.uniform(0.5, 1) * verb.seconds)
            code, text = run.end()
            done += 1
            if days == 0:
                for path in (out / "work").rglob("*"):
                    os.utime(path, (time.time() + DAY,) * 2)
            if code > 0:
                fault(f"{verb.name}, the clock jumps by {days} days: exit {code}: {text[-300:]!r}")
            again(verb, out, fault, f"the clock jumps by {days} days")
    return done


def disks(verbs: list[Verb], out: Path, rng: random.Random, tries: int, fault: Fault) -> int:
    """Let the disk of the output be full when a share of the output is written."""
    done = 0
    folder = out / "work"
    for verb in verbs:
        if verb.piped:
            continue
        for _ in range(max(tries // 12, 1)):
            clear(folder)
            kib = 8 + round(rng.uniform(0, 1.1) * verb.bytes / 1024)
            mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
            if subprocess.run(mount, capture_output=True).returncode:
                print("disks: no tmpfs can be mounted here (not root?): left out")
                return done
            try:
                code, text = start(verb, out / "material", folder).end()
                done += 1
                subprocess.run(["mount", "-o", "remount,size=256m", str(folder)], check=True)
                check_after(verb, out, fault, f"disk of {kib} KiB", code, text)
            finally:
                subprocess.run(["umount", str(folder)], check=True)
    return done


def homes(verbs: list[Verb], out: Path, rng: random.Random, tries: int, fault: Fault) -> int:
    """Take HOME and the temporary folder away, or make them read-only."""
    locked = out / "locked"
    locked.mkdir(exist_ok=True)
    mounted = not subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(locked)],
                                 capture_output=True).returncode
    cases: list[tuple[str, dict[str, str | None]]] = [
        ("no HOME", {"HOME": None, "GAN_DENOISE_CACHE": None}),
        ("HOME is missing", {"HOME": "/nowhere", "GAN_DENOISE_CACHE": None}),
        ("TMPDIR is missing", {"TMPDIR": "/nowhere"})]
    if mounted:
        cases += [("HOME is read-only", {"HOME": str(locked), "GAN_DENOISE_CACHE": None}),
                  ("TMPDIR is read-only", {"TMPDIR": str(locked)}),
                  ("the cache is read-only", {"GAN_DENOISE_CACHE": str(locked / "cache")})]
    done = 0
    try:
        for verb in verbs:
            for what, environment in cases:
                clear(out / "work")
                code, text = start(verb, out / "material", out / "work", environment).end()
                done += 1
                if code and "the cache" not in what:
                    fault(f"{verb.name}, {what}: exit {code}: {text[-200:]!r}")
                if code:
                    check_after(verb, out, fault, what, code, text)
                elif content_differs(verb, out):
                    again(verb, out, fault, what)
    finally:
        if mounted:
            subprocess.run(["umount", str(locked)], check=True)
    return done


def content_differs(verb: Verb, out: Path) -> bool:
    """Return whether the result is not that of an undisturbed run."""
    from torture_verbs import content_of

    return content_of(out / "work") != verb.reference
