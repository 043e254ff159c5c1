"""Run a training command in several worker processes on this machine, as a cluster would.

    python scripts/train_workers.py --workers 4 -- pretrain --run runs/four --config debug \\
        data.speech=DIR data.noise=DIR training.batch_size=8

What follows `--` is a command of `gan-denoise`; `training.strategy=multi_worker` is added, and a
TF_CONFIG with ports of the loopback device. The output of worker 0, the chief, is shown; that of
the others lies in files, whose folder is printed first. Ctrl-C lets all save their state and end;
`--kill N --after SECONDS` kills a worker.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.standard_streams import OUTPUT
from gan_denoise.core.termination import ending_signal
from gan_denoise.training.worker_processes import (
    MULTI_WORKER,
    Line,
    WorkerProcess,
    follow,
    free_ports,
)


def main() -> int:
    """Run the command; return the exit code of the worker that failed first, or 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", type=int, help="number of a worker to kill")
    parser.add_argument("--after", type=float, default=60.0, help="seconds before it is killed")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    logs = Path(tempfile.mkdtemp(prefix="train-workers-"))
    print(f"output of the others: {logs}", file=sys.stderr)

    def show(worker: int, line: Line) -> None:
        if worker == 0:
            print(line.text, file=sys.stdout if line.stream == OUTPUT else sys.stderr, flush=True)
        else:
            with open(logs / f"worker-{worker}.log", "a", encoding="utf-8") as log:
                print(line.text, file=log)

    hosts = [f"127.0.0.1:{port}" for port in free_ports(given.workers)]
    workers = [WorkerProcess([*given.command, MULTI_WORKER], hosts, index)
               for index in range(given.workers)]
    killed: list[float] = []

    def kill() -> None:
        killed.append(time.monotonic())
        workers[given.kill].kill()

    timer = threading.Timer(given.after, kill)
    timer.daemon = True
    if given.kill is not None:
        timer.start()
    try:
        follow(workers, show)
        code = 0
    except KeyboardInterrupt as error:
        code = 128 + ending_signal(error)
    except GanDenoiseError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    if killed:
        print(f"all ended {time.monotonic() - killed[0]:.1f} s after worker {given.kill}")
    return code


if __name__ == "__main__":
    sys.exit(main())
