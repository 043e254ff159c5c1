"""Worker processes: how many are worth while, pools of them, and how one ended."""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import multiprocessing
import multiprocessing.context
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from gan_denoise.core.errors import GanDenoiseError

Result = TypeVar("Result")


class ProcessDied(GanDenoiseError):
    """A worker process ended before its work was done; says how.

    Attributes:
        tries: How often a piece of work is begun before such an end is its failure.
    """

    tries = 1


class ProcessPool:
    """Processes that compute the results of a function; they start with the first call of it.

    They end with this process, even if it is killed, and leave Ctrl-C to it. They are spawned: a
    fork of a process with threads, such as those of TensorFlow and ONNX Runtime, may hang. A script
    that uses them therefore needs `if __name__ == "__main__":`.

    Args:
        jobs: Number of processes.
        work: What they do, for the error: "a process died while <work>".
        way_out: What the user can do where one dies, beside closing other programs.
    """

    def __init__(self, jobs: int, work: str, way_out: str):
        self._work, self._way_out = work, way_out
        self._context = _Context()
        self._pool = ProcessPoolExecutor(jobs, self._context, depend_on_the_parent)

    def map(
        self, function: Callable[..., Result], *arguments: Iterable[Any], chunksize: int = 1
    ) -> Iterator[Result]:
        """Hand all calls to the processes at once; return the results, in order, as they come.

        Args:
            function: A function at the top of a module.
            arguments: Iterables of its first, second ... argument.
            chunksize: Calls that go to a process together.

        Raises:
            ProcessDied: When a process ends on the way, here or while the results are taken.
        """
        with self._watched():
            results = self._pool.map(function, *arguments, chunksize=chunksize)
            # The pool looks at its list of processes before it starts the one for a call, and again
            # with the next call: without this one the death of the last process goes unseen.
            self._pool.submit(int)

        def each() -> Iterator[Result]:
            with self._watched():
                yield from results

        return each()

    def close(self) -> None:
        """Drop what is not begun, wait for what is, and end the processes."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool as error:
            self.close()  # the others are ended, and all exit codes known
            # The pool ends the others by SIGTERM (15).
            codes = [process.exitcode for process in self._context.started]
            died = next((code for code in codes if code not in (0, -15, None)), -15)
            way_out = self._way_out
            if died == 1:  # how Python ends where it cannot import the script
                way_out = f"the calling script needs `if __name__ == '__main__':`, or {way_out}"
            raise ProcessDied(
                f"a process died while {self._work} ({exit_text(died)})", way_out
            ) from error


class _Context(multiprocessing.context.SpawnContext):
    """Spawns processes and remembers them: a pool forgets those that have ended."""

    def __init__(self) -> None:
        self.started: list[multiprocessing.context.SpawnProcess] = []

    def Process(self, *args: Any, **options: Any) -> multiprocessing.context.SpawnProcess:
        """Make a process, not started yet."""
        self.started.append(multiprocessing.context.SpawnProcess(*args, **options))
        return self.started[-1]


class Interruption:
    """Interrupts a process of `multiprocessing`, which the terminal's Ctrl-C does not reach.

    It is made beside the process and handed to it among its arguments. On Windows, where a signal
    would end the process at once, a thread of it waits for a message.

    Args:
        context: Of the process.
    """

    def __init__(self, context: multiprocessing.context.BaseContext):
        self._pipe = None if hasattr(os, "setpgrp") else context.Pipe(duplex=False)

    def send(self, process: multiprocessing.process.BaseProcess) -> None:
        """Raise KeyboardInterrupt in the process, or call its handler; nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            if self._pipe is not None:
                self._pipe[1].send_bytes(b"interrupt")
            elif process.pid is not None:
                os.kill(process.pid, signal.SIGINT)

    def receive(self) -> None:
        """In the process: take it out of the terminal's reach and into that of `send`."""
        if self._pipe is None:
            os.setpgrp()
            return
        if hasattr(ctypes, "windll"):
            ctypes.windll.kernel32.SetConsoleCtrlHandler(None, True)
        threading.Thread(target=self._obey, daemon=True).start()

    def _obey(self) -> None:
        while True:
            self._pipe[0].recv_bytes()
            _thread.interrupt_main()


def exit_text(code: int) -> str:
    """Return in words how a process ended, from its exit code; -N is signal N."""
    if code == -9:
        return "signal 9: out of memory?"
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def depend_on_the_parent() -> None:
    """Leave Ctrl-C to the parent process, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_the_parent()


def end_with_the_parent() -> None:
    """Let this process of `multiprocessing` end with the one that started it, even if killed."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
