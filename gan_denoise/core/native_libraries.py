"""Imports TensorFlow and ONNX Runtime without their start-up messages and telemetry."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

STDERR = 2  # file descriptor
FATAL = 4  # severity of what ONNX Runtime prints


def load_tensorflow() -> None:
    """Import TensorFlow and Keras without a line on the terminal.

    Their C++ code writes to the descriptor of standard error, past Python and past
    TF_CPP_MIN_LOG_LEVEL, at the import and where devices are looked for. What it wrote is shown
    where the import fails.

    Raises:
        ImportError: When they cannot be imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # afterwards: no warnings of C++ code
    with stderr_kept_back():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.config.list_physical_devices()


def load_onnxruntime() -> ModuleType:
    """Import ONNX Runtime; return it.

    It prints warnings past Python, about processors and folders, in lines that name no file;
    errors it also raises. Its wheels send usage data to their maker, unless the environment says
    otherwise before the import (`ORT_DISABLE_TELEMETRY=0` allows it).

    Raises:
        ImportError: When it cannot be imported.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with stderr_kept_back():
        import onnxruntime
    onnxruntime.set_default_logger_severity(FATAL)
    return onnxruntime


@contextlib.contextmanager
def stderr_kept_back() -> Iterator[None]:
    """Keep what is written to the descriptor of standard error; show it after an exception.

    What Python has buffered is written before. Where the process itself is aborted, as by a
    processor that lacks an instruction, Python prints in which import.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        terminal = os.dup(STDERR)
    except OSError:  # there is none
        yield
        return
    watched = faulthandler.is_enabled()
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), STDERR)
        try:
            if not watched:
                faulthandler.enable(terminal)
            yield
        except BaseException:
            kept.seek(0)
            with contextlib.suppress(OSError):  # full
                os.write(terminal, kept.read())
            raise
        finally:
            if not watched:
                faulthandler.disable()
            os.dup2(terminal, STDERR)
            os.close(terminal)
