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
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.processes import cores

if TYPE_CHECKING:
    import grpc

LOCAL, AUTO = "local", "auto"
CONNECT_SECONDS = 10.0
STORE_BYTES = 100 * 2**20  # of a Ray that is started here; it takes no less than 75
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_task_events_report_interval_ms": "0",  # a dashboard's alone: 0.25 s at the end of a run
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no warning of how GPUs will be hidden
}


class ClusterError(GanDenoiseError):
    """A Ray cluster cannot be reached, or does not share what it must with this machine."""


@contextlib.contextmanager
def connect(address: str, cpus: int = 0) -> Iterator[ModuleType]:
    """Connect to Ray for a `with` block; where this process already is, that connection is used.

    Nothing that Ray logs comes to the terminal.

    Args:
        address: `local`: a Ray of this machine, started for the block; `auto`: the cluster that
            this machine is part of; `host:6379`: that cluster, from one of its machines;
            `ray://host:10001`: that cluster, from any machine. A cluster that wants a token gets
            that of `$RAY_AUTH_TOKEN` where `$RAY_AUTH_MODE` is `token`.
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
    options: dict[str, object] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == LOCAL:
        address = ""
        options |= {"num_cpus": max(cpus, cores()), "include_dashboard": False,
                    "object_store_memory": STORE_BYTES}
    else:
        found = _resolve(ray, address) if address == AUTO else address
        _check_reachable(ray, found, own=address == AUTO and "RAY_ADDRESS" not in os.environ)
    _start(ray, address, options)
    try:
        yield ray
    finally:
        ray.shutdown()


def _resolve(ray: ModuleType, address: str) -> str:
    """Return the address that `auto` means, after `$RAY_ADDRESS` or what runs on this machine."""
    services = ray._private.services
    try:
        found = os.environ.get("RAY_ADDRESS") or services.canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError, OSError):
        found = None
    if not found or found == LOCAL:
        raise ClusterError(f"{address}: no Ray cluster runs on this machine",
                           "start one (ray start --head), give its HOST:6379, or local")
    return str(found)


def _check_reachable(ray: ModuleType, address: str, own: bool) -> None:
    """Ask for what costs the cluster nothing, with the token if there is one.

    Ray itself would try for half a minute, and print of it.

    Args:
        ray: The module.
        address: Of the cluster.
        own: Whether it was found on this machine: Ray then looks for a token by itself.
    """
    import grpc
    from ray._private.grpc_utils import init_grpc_channel

    place = address.removeprefix("ray://")
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError(f"{address}: no address of a Ray cluster",
                           "give local, auto, HOST:6379 or ray://HOST:10001")
    unreachable = f"{address}: no Ray cluster answers there"
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        with init_grpc_channel(place) as channel:
            _probe(channel, client=place != address)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            if own and "RAY_AUTH_MODE" not in os.environ:
                return
            raise ClusterError(f"{address}: the cluster wants its token",
                               "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH "
                               "to that of the cluster") from None
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            raise ClusterError(f"{address}: another service of Ray, or none, answers there",
                               "give HOST:6379, or ray://HOST:10001 for Ray Client") from None
        raise ClusterError(f"{unreachable} (what answers is not Ray)",
                           "check the address, or give local") from None
    except ray.exceptions.AuthenticationError:
        raise ClusterError(f"{address}: RAY_AUTH_MODE is token, and Ray finds none",
                           "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH") from None
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or _one_line(error)
        raise ClusterError(f"{unreachable} ({reason})",
                           "check the address, or give local") from None


def _probe(channel: grpc.Channel, client: bool) -> None:
    from ray.core.generated import ray_client_pb2

    if client:
        method = "/ray.rpc.RayletDriver/ClusterInfo"
        ping = ray_client_pb2.ClusterInfoRequest(type=ray_client_pb2.ClusterInfoType.PING)
        content = ping.SerializeToString()
    else:
        method, content = "/ray.rpc.NodeInfoGcsService/GetClusterId", b""
    channel.unary_unary(method)(content, timeout=CONNECT_SECONDS, wait_for_ready=True)


def _start(ray: ModuleType, address: str, options: dict[str, object]) -> None:
    on_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if on_main else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the error says it
            ray.init(address or LOCAL, **options)
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
        ray.shutdown()
        raise ClusterError(f"{address or LOCAL}: Ray does not start ({_one_line(error)})",
                           "check that the cluster runs, with the same versions of Ray and Python; "
                           "or give local") from error
    finally:
        if on_main:
            signal.signal(signal.SIGTERM, handler)  # Ray's own turns it into an exit of code 15
    # The death of a worker is ours to report; Ray has no other way to keep it off stdout.
    ray._private.worker._worker_logs_enabled = False


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
