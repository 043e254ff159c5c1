"""The routes of the first tab: uploads, jobs, previews, results; and the end of a session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from gan_denoise.core.json_text import parse_json
from gan_denoise.inference.options import PRESETS, DenoiseOptions
from gan_denoise.pages.jobs import DONE, Job
from gan_denoise.pages.models import inversions, parse_options
from gan_denoise.pages.previews import (
    KINDS,
    PLAYER,
    WINDOW_SECONDS,
    count_windows,
    preview_folder,
)
from gan_denoise.pages.sessions import Session
from gan_denoise.pages.settings import ServeError
from gan_denoise.pages.templates import page
from gan_denoise.pages.uploads import Upload, receive, take_file

LARGEST_JSON = 10_000  # bytes of a request that is no upload
FIELDS = DenoiseOptions.model_fields
SHOWN = ("channels", "format")  # options with a list of choices


async def show(request: Request) -> Response:
    """Return the page of the first tab."""
    state = request.app.state
    choices = {name: list(FIELDS[name].annotation.__args__) for name in SHOWN}
    return page(
        "denoise.html.j2", request, tab="denoise", models=state.models.names,
        asked=request.query_params.get("model"),  # as the training tab's link does
        inversions=inversions(), choices=choices, settings=state.settings,
        data={"presets": {name: dict(values) for name, values in PRESETS.items()},
              "max_bytes": int(state.settings.max_megabytes * 1e6),
              "max_megabytes": state.settings.max_megabytes,
              "max_minutes": state.settings.max_minutes, "window_seconds": WINDOW_SECONDS},
    )


async def add_upload(request: Request) -> Response:
    """Take a file: the request's body; its name is in the query."""
    state, session = request.app.state, request.state.session
    length = request.headers.get("content-length", "")

    async def parts() -> AsyncIterator[bytes]:
        async for part in request.stream():
            if part:
                session.touch()  # a slow upload may take longer than a session lasts
                yield part

    upload = await receive(parts(), request.query_params.get("name", ""),
                           int(length) if length.isdecimal() else None,
                           session.folder, state.settings)
    return _added(session, upload, state.settings.kept_per_session)


async def add_example(request: Request) -> Response:
    """Take the recording of the package as an upload."""
    state, session = request.app.state, request.state.session
    source = example()
    upload = await asyncio.to_thread(take_file, source, source.name, session.folder,
                                     state.settings)
    return _added(session, upload, state.settings.kept_per_session)


def example() -> Path:
    """Return the recording of real speech in noise that the page offers."""
    from gan_denoise.examples import noisy_speech

    return noisy_speech()


def _added(session: Session, upload: Upload, kept: int) -> Response:
    session.uploads[upload.id] = upload
    idle = [each for each in session.uploads if each != upload.id
            and not any(job.active and job.upload.id == each for job in session.jobs.values())]
    for identifier in idle[:max(len(session.uploads) - kept, 0)]:
        session.remove_upload(identifier)
    return JSONResponse(upload.to_json(), 201)


async def remove_upload(request: Request) -> Response:
    """Delete an upload and all that was made of it."""
    session = request.state.session
    upload = session.upload(request.path_params["upload"])
    await asyncio.to_thread(session.remove_upload, upload.id)
    return Response(status_code=204)


async def add_job(request: Request) -> Response:
    """Denoise an upload: JSON with its identifier, the model and the options."""
    state, session = request.app.state, request.state.session
    values = await read_json(request)
    upload = session.upload(str(values.pop("upload", "")))
    model = values.pop("model", None) or state.models.names[0]
    choice = {"model": model, **values}
    inversion, options = parse_options(values)
    enhancer = await asyncio.to_thread(state.models.enhancer, str(model), inversion, options)
    job = Job(upload, enhancer, choice)
    state.jobs.add(job, session.jobs)
    return JSONResponse(job.to_json(state.jobs.position(job)), 202)


async def list_jobs(request: Request) -> Response:
    """Return all jobs of the session."""
    jobs = request.app.state.jobs
    return JSONResponse([job.to_json(jobs.position(job))
                         for job in request.state.session.jobs.values()])


async def show_job(request: Request) -> Response:
    """Return how far a job is."""
    job = _job(request)
    return JSONResponse(job.to_json(request.app.state.jobs.position(job)))


async def cancel_job(request: Request) -> Response:
    """Cancel a job; what is finished stays until the upload or the session is removed."""
    _job(request).cancel()
    return Response(status_code=204)


async def result(request: Request) -> Response:
    """Return the denoised recording, or what was removed, to be saved."""
    job = _job(request)
    if job.state != DONE:
        raise ServeError("the recording is not done", "wait until it is", 409)
    path = job.target if request.url.path.endswith("/result") else job.removed
    return FileResponse(path, filename=job.name_of(path),
                        media_type="application/octet-stream")


async def preview(request: Request) -> Response:
    """Return a window of a finished job with its player, which is made before."""
    job, window = _job(request), request.path_params["window"]
    async with request.app.state.preview_limit:
        folder = await asyncio.to_thread(preview_folder, job, window)
    seconds = min(job.result.seconds - window * WINDOW_SECONDS, WINDOW_SECONDS)
    return JSONResponse({
        "window": window, "windows": count_windows(job), "start": window * WINDOW_SECONDS,
        "seconds": round(seconds, 3),
        "player": (folder / PLAYER).read_text(encoding="utf-8"),
    })


async def preview_sound(request: Request) -> Response:
    """Return a sound of a window; a part of it where the browser asks for a range."""
    job, window, kind = _job(request), request.path_params["window"], request.path_params["kind"]
    if kind not in KINDS:
        raise ServeError("there is no such sound", status=404)
    async with request.app.state.preview_limit:
        folder = await asyncio.to_thread(preview_folder, job, window)
    return FileResponse(folder / f"{kind}.flac", media_type="audio/flac")


async def ping(request: Request) -> Response:
    """Keep the session: the page is still there."""
    return Response(status_code=204)


async def leave(request: Request) -> Response:
    """The page is left: the session ends soon unless it is loaded again."""
    request.state.session.leave()
    return Response(status_code=204)


async def forget(request: Request) -> Response:
    """Delete all files of the session; the visitor keeps their place."""
    await asyncio.to_thread(request.state.session.clear)
    return Response(status_code=204)


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body.

    Raises:
        ServeError: When it is none, or too large.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_JSON:
            raise ServeError("the request is too large", status=413)
    try:
        values = parse_json(body)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ServeError("expected a JSON object")
    return values


def _job(request: Request) -> Job:
    return request.state.session.job(request.path_params["job"])


ROUTES = (
    Route("/", show),
    Route("/api/uploads", add_upload, methods=["POST"]),
    Route("/api/uploads/example", add_example, methods=["POST"]),
    Route("/api/uploads/{upload}", remove_upload, methods=["DELETE"]),
    Route("/api/jobs", list_jobs),
    Route("/api/jobs", add_job, methods=["POST"]),
    Route("/api/jobs/{job}", show_job),
    Route("/api/jobs/{job}", cancel_job, methods=["DELETE"]),
    Route("/api/jobs/{job}/previews/{window:int}", preview),
    Route("/api/jobs/{job}/previews/{window:int}/{kind}.flac", preview_sound),
    Route("/api/jobs/{job}/result", result),
    Route("/api/jobs/{job}/removed", result),
    Route("/api/session/ping", ping, methods=["POST"]),
    Route("/api/session/leave", leave, methods=["POST"]),
    Route("/api/session", forget, methods=["DELETE"]),
)
