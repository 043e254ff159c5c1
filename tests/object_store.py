"""Object stores for tests: servers on this machine's loopback, one of a kind for each process."""

from __future__ import annotations

import atexit
import contextlib
import functools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from moto.server import ThreadedMotoServer


@contextlib.contextmanager
def object_store() -> Iterator[fsspec.AbstractFileSystem]:
    """Let addresses `s3://` be of the server within a `with` block.

    Yields:
        A file system of it, another than the one that is tested.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any",
                            "AWS_DEFAULT_REGION": "us-east-1",
                            "AWS_ENDPOINT_URL": _server()}.items():
            patch.setenv(name, value)
        yield fsspec.filesystem("s3", skip_instance_cache=True)


@contextlib.contextmanager
def store_of(folder: Path, address: str) -> Iterator[fsspec.AbstractFileSystem]:
    """As `object_store`, with what is in a folder at an address, in a bucket that is made."""
    with object_store() as files:
        files.mkdir("/".join(address.split("/")[:3]))
        files.put(f"{folder}/", f"{address}/", recursive=True)
        yield files


@contextlib.contextmanager
def google_store(bucket: str) -> Iterator[fsspec.AbstractFileSystem]:
    """Let addresses `gs://` be of a server with a bucket within a `with` block.

    Yields:
        A file system of it, another than the one that is tested.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", _google_server(bucket))
        # It would ask for the bucket's kind by gRPC, for a minute each time.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        yield fsspec.filesystem("gs", skip_instance_cache=True)


@functools.cache
def _google_server(bucket: str) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    # A process of its own: stopped from within, it waits for connections that are kept open.
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory", "--host", host,
               "--port", str(port), "--default-bucket", bucket]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(server.wait)
    atexit.register(server.kill)  # before that
    for _ in range(600):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, port)):
            return f"http://{host}:{port}"
        time.sleep(0.05)
    raise TimeoutError(" ".join(command))


@functools.cache
def _server() -> str:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"
