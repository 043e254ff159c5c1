"""The routes of the training tab: what may be chosen, the run and its curves, its clips."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gan_denoise.pages.denoise_routes import read_json
from gan_denoise.pages.settings import ServeError
from gan_denoise.pages.templates import page, render
from gan_denoise.pages.training import Training
from gan_denoise.pages.training_choice import SOURCES, list_configs, list_folders
from gan_denoise.pages.training_curves import charts, clip_count, clip_tracks


async def show(request: Request) -> Response:
    """Return the page of the tab."""
    training = _training(request)
    return page("training.html.j2", request, tab="training", training=training,
                configs=list_configs(), sources=list(await asyncio.to_thread(training.sources)),
                folder_keys=SOURCES, data={"offered": training.offered})


async def folders(request: Request) -> Response:
    """Return the folders with recordings, and how many files each has."""
    found = await asyncio.to_thread(list_folders, _training(request).roots)
    return JSONResponse([{"name": name, "files": count} for name, (_, count) in found.items()])


async def status(request: Request) -> Response:
    """Return how far training is, and the runs."""
    training = _training(request)
    runs = await asyncio.to_thread(training.list_runs)
    return JSONResponse(training.to_json() | {"runs": runs})


async def start(request: Request) -> Response:
    """Start a run: JSON, see `training_choice.parse_choice`."""
    values = await read_json(request)
    await asyncio.to_thread(_training(request).start, values)
    return _changed(request)


async def stop(request: Request) -> Response:
    """Stop the run at a whole step; asked again, at once."""
    await asyncio.to_thread(_training(request).stop)
    return _changed(request)


async def resume(request: Request) -> Response:
    """Go on with a run."""
    await asyncio.to_thread(_training(request).resume, request.path_params["run"])
    return _changed(request)


async def extend(request: Request) -> Response:
    """Go on with a run beyond its end: JSON with the minutes that it gets."""
    values = await read_json(request)
    await asyncio.to_thread(_training(request).extend, request.path_params["run"],
                            values.get("minutes"))
    return _changed(request)


async def export(request: Request) -> Response:
    """Export a run as a model, which the first tab then offers."""
    await asyncio.to_thread(_training(request).export, request.path_params["run"])
    return _changed(request)


async def curves(request: Request) -> Response:
    """Return the charts of a run, and how many clips it has, of which step."""
    training, run = _training(request), request.path_params["run"]

    def read() -> dict[str, object]:
        events = training.events(run)
        step, count = clip_count(events)
        drawn = charts(events, training.metric(run)) if events.tags else []
        return {"charts": drawn, "clips": count, "clip_step": step}

    return JSONResponse(await asyncio.to_thread(read))


async def clip(request: Request) -> Response:
    """Return the player of one of the fixed validation clips, as the last validation left it."""
    training, run = _training(request), request.path_params["run"]
    number = request.path_params["number"]

    def read() -> dict[str, object]:
        events = training.events(run)
        tracks = clip_tracks(events, number, f"/api/training/runs/{run}/clips/{number}")
        return {"step": clip_count(events)[0], "player": render(
            "preview.html.j2", tracks=tracks, label=f"validation clip {number + 1} of {run}",
            ident=f"clip-{number}")}

    return JSONResponse(await asyncio.to_thread(read))


async def clip_sound(request: Request) -> Response:
    """Return a sound of a clip as WAV."""
    values = request.path_params
    events = await asyncio.to_thread(_training(request).events, values["run"])
    _, clips = events.audio.get(f"audio/{values['sound']}", (0, []))
    if values["number"] >= len(clips):
        raise ServeError("there is no such clip", status=404)
    return Response(clips[values["number"]], media_type="audio/wav")


def _training(request: Request) -> Training:
    return request.app.state.training


def _changed(request: Request) -> Response:
    return JSONResponse(_training(request).to_json(), 202)


_RUN = "/api/training/runs/{run}"
ROUTES = (
    Route("/training", show),
    Route("/api/training", status),
    Route("/api/training", start, methods=["POST"]),
    Route("/api/training/folders", folders),
    Route("/api/training/stop", stop, methods=["POST"]),
    Route(f"{_RUN}/resume", resume, methods=["POST"]),
    Route(f"{_RUN}/extend", extend, methods=["POST"]),
    Route(f"{_RUN}/export", export, methods=["POST"]),
    Route(f"{_RUN}/curves", curves),
    Route(f"{_RUN}/clips/{{number:int}}", clip),
    Route(f"{_RUN}/clips/{{number:int}}/{{sound}}.wav", clip_sound),
)
