"""Load on `gan-denoise serve`: several people at once, many requests, and one hour-long recording.

    python scripts/serve_load.py

Starts a server of its own on loopback and gives its memory (resident, of its process; Linux) before
and after each part. Ends with exit 1 where a request failed, and needs the `web` and `dev` extras.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import soundfile

from gan_denoise.examples import noisy_speech

POLL_SECONDS = 0.2


def main() -> None:
    """Run the parts and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=8, help="at once (8)")
    parser.add_argument("--requests", type=int, default=200, help="recordings of all (200)")
    parser.add_argument("--minutes", type=float, default=60, help="of the long recording (60)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serve-load-") as folder:
        failed = load(options, folder)
        left = len(list(Path(folder).iterdir()))
    print(f"failed: {failed}; left behind: {left}")
    sys.exit(1 if failed or left else 0)


def load(options: argparse.Namespace, folder: str) -> int:
    """Run all parts on a server whose temporary folder is `folder`; return how many failed."""
    command = [sys.executable, "-m", "gan_denoise.cli", "serve", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                              env=os.environ | {"TMPDIR": folder})
    try:
        address = server.stdout.readline().split()[0]
        print(f"{'':34}{'resident':>10}{'peak':>10}")
        show("idle", server)
        failed = crowd(address, server, options.people, options.requests)
        return failed + long_recording(address, server, options.minutes)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


def crowd(address: str, server: subprocess.Popen[str], people: int, requests: int) -> int:
    """Denoise recordings of several people at once; return how many failed."""
    failed, began, done = 0, time.perf_counter(), 0
    content = noisy_speech().read_bytes()
    with ThreadPoolExecutor(people) as pool:
        clients = [httpx.Client(base_url=address, timeout=120) for _ in range(people)]
        for share in _shares(requests, 4):
            calls = [pool.submit(denoise, clients[number % people], content)
                     for number in range(share)]
            failed += sum(call.result() is None for call in calls)
            done += share
            show(f"{done} recordings, {people} at once", server)
        for client in clients:
            client.close()
    print(f"  {requests / (time.perf_counter() - began):.1f} recordings of "
          f"{soundfile.info(noisy_speech()).duration:.1f} s a second")
    return failed


def long_recording(address: str, server: subprocess.Popen[str], minutes: float) -> int:
    """Denoise one long recording; return whether it failed."""
    speech, rate = soundfile.read(noisy_speech(), dtype="int16")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "long.wav")
        with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
            for _ in range(max(round(60 * minutes * rate / len(speech)), 1)):
                file.write(speech)
        began = time.perf_counter()
        with httpx.Client(base_url=address, timeout=120) as client:
            job = denoise(client, _parts(path))
        if job is None:
            return 1
        show(f"{job['figures']['seconds'] / 60:.0f} minutes", server)
        print(f"  {time.perf_counter() - began:.1f} s from upload to download, of which "
              f"{job['figures']['elapsed']:.1f} s of denoising")
    return 0


def denoise(client: httpx.Client, content: bytes | Iterator[bytes]) -> dict | None:
    """Upload, denoise, listen and download; return the job, None where something failed."""
    try:
        client.get("/").raise_for_status()
        upload = client.post("/api/uploads", params={"name": "talk.flac"}, content=content)
        job = client.post("/api/jobs", json={"upload": upload.raise_for_status().json()["id"]})
        place = f"/api/jobs/{job.raise_for_status().json()['id']}"
        while (state := client.get(place).raise_for_status().json())["state"] in (
                "waiting", "running"):
            time.sleep(POLL_SECONDS)
        client.get(f"{place}/previews/0").raise_for_status()
        client.get(f"{place}/previews/0/after.flac").raise_for_status()
        size = 0
        with client.stream("GET", f"{place}/result") as answer:
            size = sum(map(len, answer.raise_for_status().iter_bytes()))
    except httpx.HTTPError as error:
        detail = error.response.text if isinstance(error, httpx.HTTPStatusError) else ""
        print(f"  {error} {detail}", file=sys.stderr)
        return None
    return state if state["state"] == "done" and size else None


def show(what: str, server: subprocess.Popen[str]) -> None:
    """Print the memory of the server in MB."""
    text = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
    resident, peak = (int(re.search(rf"{name}:\s+(\d+)", text)[1]) * 1024 / 1e6
                      for name in ("VmRSS", "VmHWM"))
    print(f"{what:34}{resident:>7.0f} MB{peak:>7.0f} MB", flush=True)


def _shares(total: int, count: int) -> list[int]:
    return np.diff(np.linspace(0, total, count + 1).astype(int)).tolist()


def _parts(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while part := file.read(2**20):
            yield part


if __name__ == "__main__":
    main()
