"""Run a training command in several worker processes on this machine, as a cluster would.

    python scripts/train_workers.py --workers 4 -- pretrain --run runs/four --config debug \\
        data.speech=DIR data.noise=DIR training.batch_size=8


What follows `--` is a command of `gan-denoise`; `training.strategy=multi_worker` is added, and a
TF_CONFIG with ports of the loopback device. The output of worker 0, the chief, is shown; that of
the others lies in files, whose folder is printed last. `--kill N --after SECONDS` kills a worker.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Return numbers of ports that nothing listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(command: list[str], workers: int, logs: Path) -> list[subprocess.Popen]:
    """Start the workers; the first one writes to this terminal, the others into files."""
    hosts = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = []
    for index in range(workers):
        cluster = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        log = None if index == 0 else open(logs / f"worker-{index}.log", "w")  # noqa: SIM115
        processes.append(subprocess.Popen(
            [sys.executable, "-m", "gan_denoise.cli", *command, "training.strategy=multi_worker"],
            env={**os.environ, "TF_CONFIG": json.dumps(cluster)}, stdout=log, stderr=log))
    return processes


def main() -> int:
    """Run the command; return the first worker's exit code that is not 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", type=int, help="number of a worker to kill")
    parser.add_argument("--after", type=float, default=60.0, help="seconds before it is killed")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    logs = Path(tempfile.mkdtemp(prefix="train-workers-"))
    processes = start(given.command, given.workers, logs)
    try:
        if given.kill is not None:
            time.sleep(given.after)
            processes[given.kill].kill()
            begun = time.monotonic()
        codes = [process.wait() for process in processes]
        if given.kill is not None:
            print(f"all ended {time.monotonic() - begun:.1f} s after worker {given.kill}")
    finally:
        for process in processes:
            process.kill()
    print(f"exit codes: {codes}; output of the others: {logs}")
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
