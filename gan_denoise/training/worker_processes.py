"""Workers that train together: each a process that runs a command with its TF_CONFIG.

`WorkerProcess` starts one on this machine, `ray_workers` those of a cluster. `follow` shows what
they say until all have ended, passes Ctrl-C on, and leaves none behind.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import queue
import runpy
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Protocol

from gan_denoise.core.processes import Interruption, end_with_the_parent, exit_text
from gan_denoise.core.standard_streams import ERRORS, OUTPUT
from gan_denoise.training.errors import TrainingError
from gan_denoise.training.interrupt import Interrupt

GRACE_SECONDS = 30.0  # for the others to end once one has; TensorFlow tells them within 15
STOP_SECONDS = 300.0  # after Ctrl-C, for a step to end, the first being traced, and to be saved
DRAIN_SECONDS = 5.0  # for the last lines of a process that has ended
POLL_SECONDS = 0.2  # between looks whether Ctrl-C was pressed
ERROR = "error: "  # begin of the line in which a command says why it ends
MULTI_WORKER = "training.strategy=multi_worker"

COMMAND = "gan_denoise.cli"  # the module that a worker runs


class WorkerError(TrainingError):
    """A worker has failed; ends with its exit code."""

    def __init__(self, reason: str, way_out: str = "", exit_code: int = TrainingError.exit_code):
        super().__init__(reason, way_out)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Line:
    """What a worker prints.

    Attributes:
        stream: `OUTPUT` or `ERRORS`.
        text: Without its end.
    """

    stream: int
    text: str


@dataclass(frozen=True)
class End:
    """How a worker has ended.

    Attributes:
        code: Exit code of its process, -N after signal N; None: lost with its machine.
    """

    code: int | None


class Worker(Protocol):
    """A worker, wherever it runs; `place` says where, for an error."""

    place: str

    def receive(self) -> Line | End:
        """Wait for what it prints next, or its end."""

    def interrupt(self) -> None:
        """Let it save its state and end, as Ctrl-C would."""

    def kill(self) -> None:
        """End it at once; nothing happens where it has ended."""


class WorkerProcess:
    """One worker, in a process of this machine that ends with this one, even if killed.

    Args:
        arguments: Of the command, without its name.
        hosts: `HOST:PORT` of all workers; the first is the chief.
        index: Number of this one among them.
        module: Is run, as by `python -m`.
    """

    place = ""

    def __init__(
        self, arguments: Sequence[str], hosts: Sequence[str], index: int, module: str = COMMAND
    ):
        config = json.dumps({"cluster": {"worker": [*hosts]},
                             "task": {"type": "worker", "index": index}})
        self._messages: queue.SimpleQueue[Line | End] = queue.SimpleQueue()
        # Not forked: a fork of a process with threads, such as Ray's, may hang.
        context = multiprocessing.get_context("spawn")
        pipes = {stream: context.Pipe(duplex=False) for stream in (OUTPUT, ERRORS)}
        outputs = {stream: theirs for stream, (_, theirs) in pipes.items()}
        self._interruption = Interruption(context)
        self._process = context.Process(target=_work, args=(module, [*arguments], config, outputs,
                                                            self._interruption))
        self._process.start()
        readers = []
        for stream, (ours, theirs) in pipes.items():
            theirs.close()
            readers.append(threading.Thread(target=self._read, args=(stream, ours), daemon=True))
            readers[-1].start()
        threading.Thread(target=self._wait, args=(readers,), daemon=True).start()

    def receive(self) -> Line | End:
        """See `Worker`."""
        return self._messages.get()

    def interrupt(self) -> None:
        """See `Worker`."""
        self._interruption.send(self._process)

    def kill(self) -> None:
        """See `Worker`."""
        self._process.kill()
        self._process.join()

    def _read(self, stream: int, ours: Connection) -> None:
        with ours:
            for line in _lines(ours):
                self._messages.put(Line(stream, line.decode("utf-8", "replace").rstrip("\r\n")))

    def _wait(self, readers: list[threading.Thread]) -> None:
        self._process.join()
        for reader in readers:
            reader.join(DRAIN_SECONDS)
        self._messages.put(End(self._process.exitcode))


def _work(
    module: str, arguments: list[str], config: str, outputs: dict[int, Connection],
    interruption: Interruption,
) -> None:
    """Run a command in a process of its own, whose output goes into pipes."""
    end_with_the_parent()
    interruption.receive()  # Ctrl-C is the parent's, which passes it on
    for descriptor, output in outputs.items():
        _send_output(descriptor, output)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray holds it back from its own
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ["TF_CONFIG"] = config
    # Not even errors of TensorFlow's C++ code: of a worker that is gone it prints a page.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.argv[1:] = arguments
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except BaseException:  # multiprocessing prints it when its output may not be sent any more
        traceback.print_exc()
        sys.exit(1)


# On Windows a connection is no file: what goes into it and comes out of it are messages.
CONNECTIONS_ARE_FILES = hasattr(os, "setpgrp")


def _lines(ours: Connection) -> Iterator[bytes]:
    """Yield what comes through a connection from `_send_output`, line by line, until its end."""
    if CONNECTIONS_ARE_FILES:
        with open(ours.fileno(), "rb", closefd=False) as lines:
            yield from lines
        return
    rest = b""
    with contextlib.suppress(EOFError):
        while True:
            *whole, rest = (rest + ours.recv_bytes()).split(b"\n")
            yield from whole
    if rest:
        yield rest


def _send_output(descriptor: int, output: Connection) -> None:
    """Send what this process writes to a descriptor into a connection, which is its own."""
    if CONNECTIONS_ARE_FILES:
        os.dup2(output.fileno(), descriptor)
        output.close()
        return
    read, write = os.pipe()
    os.dup2(write, descriptor)
    os.close(write)

    def send() -> None:
        while part := os.read(read, 2**16):
            output.send_bytes(part)

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), descriptor)  # the last writer is gone: `send` ends
        sender.join()

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    Finalize(None, end, exitpriority=0)  # at the end of a process of multiprocessing


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nothing listens at."""
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


# ---- All of them -------------------------------------------------------------------------------
def follow(workers: Sequence[Worker], show: Callable[[int, Line], None]) -> None:
    """Show what workers print until all have ended; none is left when this returns or raises.

    Where one has ended, the others have `GRACE_SECONDS` to do so. After Ctrl-C, SIGTERM or SIGHUP
    all save their state and end; twice, it ends them at once.

    Args:
        workers: The chief first.
        show: Called with the number of a worker and a line of it; not with that of its error.

    Raises:
        WorkerError: When one has failed: with its reason, that of the first.
        KeyboardInterrupt: After Ctrl-C; its subclass `Terminated` after the other two.
    """
    heard: queue.SimpleQueue[tuple[int, Line | End]] = queue.SimpleQueue()
    listeners = [threading.Thread(target=_listen, args=(index, worker, heard), daemon=True)
                 for index, worker in enumerate(workers)]
    ends: dict[int, End] = {}
    errors: dict[int, str] = {}
    last: dict[int, str] = {}  # lines of each on standard error
    until, told = float("inf"), False
    try:
        with Interrupt() as interrupt:
            for listener in listeners:
                listener.start()
            while len(ends) < len(workers) and time.monotonic() < until:
                if interrupt.requested and not told:
                    told, until = True, min(until, time.monotonic() + STOP_SECONDS)
                    for worker in workers:
                        worker.interrupt()
                try:
                    index, message = heard.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
                if isinstance(message, End):
                    ends[index] = message
                    if not told:  # else the chief may still save
                        until = min(until, time.monotonic() + GRACE_SECONDS)
                elif message.stream == ERRORS and message.text.startswith(ERROR):
                    errors[index] = message.text.removeprefix(ERROR)
                else:
                    if message.stream == ERRORS:
                        last[index] = message.text
                    show(index, message)
    finally:
        for worker in workers:
            worker.kill()
    if told:
        raise interrupt.error()
    failed = [index for index, end in ends.items() if end.code != 0]
    if failed:
        # That others are gone is said by those that wait for them: one that was killed comes first.
        first = min(failed, key=lambda index: (ends[index].code or -1) > 0)
        raise _failure(f"worker {first}{workers[first].place}", ends[first].code,
                       errors.get(first), last.get(first, ""))


def _listen(index: int, worker: Worker, heard: queue.SimpleQueue[tuple[int, Line | End]]) -> None:
    while True:
        message = worker.receive()
        heard.put((index, message))
        if isinstance(message, End):
            return


def _failure(worker: str, code: int | None, error: str | None, last: str) -> WorkerError:
    """Return the error of a worker that has failed.

    Args:
        worker: Which, and where.
        code: See `End`.
        error: Its own, if it has said one.
        last: What it printed last.
    """
    if error is not None:
        return WorkerError(f"{worker}: {error}", exit_code=max(code or 0, TrainingError.exit_code))
    how = "its machine was lost, or Ray ended it" if code is None else exit_text(code)
    if code is not None and code > 0 and last:
        how += f", {last}"
    return WorkerError(f"{worker} died ({how})", "the same command, with as many workers or fewer, "
                       "goes on from the last checkpoint")
