"""Stands in for a training command in the processes of tests; imports no TensorFlow."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


class Cases:
    """What workers can do."""

    @staticmethod
    def talk(index, hosts):
        print(f"to stdout: {hosts}")
        print(f"to stderr: {index}: grüße", file=sys.stderr)

    @staticmethod
    def refuse(index, hosts):
        """The second has an error; the first would wait for it."""
        if index == 1:
            print("error: a.wav is missing; bring it back", file=sys.stderr)
            sys.exit(2)
        time.sleep(600)

    @staticmethod
    def fault(index, hosts):
        """The second has one."""
        if index == 1:
            raise KeyError("step")
        time.sleep(600)

    @staticmethod
    def die(index, hosts):
        """The second is killed, and the first then says that another is gone."""
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5)
        print("error: worker 1 is gone", file=sys.stderr)
        sys.exit(1)

    @staticmethod
    def wait(index, hosts):
        """Say who has started it, and wait."""
        print(f"parent {os.getppid()}", flush=True)
        time.sleep(600)

    @staticmethod
    def train(index, hosts):
        """Save on Ctrl-C between two steps, as training does."""
        try:
            print("begun", flush=True)
            while True:
                time.sleep(0.05)
        except KeyboardInterrupt:
            (Path(sys.argv[2]) / f"{index}.saved").touch()
            print("saved")
            sys.exit(130)


def main() -> None:
    """Do what the first argument says, each worker as its number is; the second is a folder."""
    task = json.loads(os.environ["TF_CONFIG"])
    index, hosts = task["task"]["index"], task["cluster"]["worker"]
    (Path(sys.argv[2]) / f"{index}.pid").write_text(str(os.getpid()))
    getattr(Cases, sys.argv[1])(index, hosts)


if __name__ == "__main__":
    main()
