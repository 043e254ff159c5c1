"""An object store for tests: a server of S3 on this machine's loopback, one for each process."""

from __future__ import annotations

import atexit
import contextlib
import functools
from collections.abc import Iterator

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


@functools.cache
def _server() -> str:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"
