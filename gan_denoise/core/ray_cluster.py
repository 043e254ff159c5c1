"""Connecting to a Ray cluster, or to a Ray that is started on this machine for one run.

Ray comes with the extra `cluster` and is imported only here, on demand.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.processes import cores

LOCAL, AUTO = "local", "auto"
CONNECT_SECONDS = 10.0
STORE_BYTES = 100 * 2**20  # of a Ray that is started here; it takes no less than 75
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no warning of how GPUs will be hidden
}


class ClusterError(GanDenoiseError):
    """A Ray cluster cannot be reached, or does not share what it must with this machine."""


@contextlib.contextmanager
def connect(address: str, cpus: int = 0) -> Iterator[Any]:
    """Connect to Ray for a `with` block; where this process already is, that connection is used.

    Nothing that Ray logs comes to the terminal.

    Args:
        address: `local`: a Ray of this machine, started for the block; `auto`: the cluster that
            this machine is part of; `host:6379`: that cluster, from one of its machines;
            `ray://host:10001`: that cluster, from any machine.
        cpus: Number of CPUs that a `local` Ray hands out, at least; 0: the cores of this machine.

    Yields:
        The module `ray`.

    Raises:
        ClusterError: When Ray is not installed or does not answer.
    """
    if importlib.util.find_spec("ray") is None:
        raise ClusterError("Ray is not installed", "pip install 'gan-denoise[cluster]'")
    os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
    import ray

    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == LOCAL:
        address = ""
        options |= {"num_cpus": max(cpus, cores()), "include_dashboard": False,
                    "object_store_memory": STORE_BYTES}
    elif address != AUTO:
        _check_answer(address)
    _start(ray, address, options)
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answer(address: str) -> None:
    """Open a connection and begin to speak gRPC: Ray itself would try for minutes."""
    import grpc

    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError(f"{address}: no address of a Ray cluster",
                           "give local, auto, HOST:6379 or ray://HOST:10001")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        if os.environ.get("RAY_USE_TLS", "0") == "0":  # else only Ray knows the certificates
            with grpc.insecure_channel(f"{host}:{port}") as channel:
                grpc.channel_ready_future(channel).result(CONNECT_SECONDS)
    except (OSError, OverflowError, grpc.FutureTimeoutError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "what answers is not Ray"
        raise ClusterError(f"{address}: no Ray cluster answers there ({reason})",
                           "check the address, or give local") from None


def _start(ray: Any, address: str, options: dict[str, Any]) -> None:
    on_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if on_main else None
    try:
        ray.init(address or LOCAL, **options)
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
        ray.shutdown()
        reason = " ".join(str(error).split())[:300]
        raise ClusterError(f"{address or LOCAL}: Ray does not start ({reason})",
                           "check that the cluster runs, with the same versions of Ray and Python; "
                           "or give local") from error
    finally:
        if on_main:
            signal.signal(signal.SIGTERM, handler)  # Ray's own turns it into an exit of code 15
    # The death of a worker is ours to report; Ray has no other way to keep it off stdout.
    ray._private.worker._worker_logs_enabled = False
