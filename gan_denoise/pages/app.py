"""The application: routes, sessions, queue and models of one server, put together.

A tab of its own brings `Route`s, an entry in `TABS`, a template that extends `serve.html.j2`, and
what it holds on `app.state` beside `settings`, `models`, `sessions`, `jobs` and `passwords`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.pages import denoise_routes, login_routes, templates, training_routes
from gan_denoise.pages.jobs import JobQueue
from gan_denoise.pages.models import Models
from gan_denoise.pages.security import Guard, PasswordCheck
from gan_denoise.pages.sessions import Sessions
from gan_denoise.pages.settings import ServeSettings
from gan_denoise.pages.training import Training

# name -> address and label
TABS = {"denoise": ("/", "Denoise"), "training": ("/training", "Train")}
EXPIRY_SECONDS = 10.0  # between two looks for sessions whose time is over
PREVIEWS_AT_ONCE = 2


def create_app(settings: ServeSettings) -> Starlette:
    """Return the application of a server.

    Raises:
        ServeError: When others reach the host and there is no password.
        ModelError: When one of the models is none.
    """
    settings.check()
    models = Models(settings.models, settings.threads)
    sessions = Sessions(60 * settings.session_minutes, authenticated=not settings.password)
    app = Starlette(
        routes=[*denoise_routes.ROUTES, *training_routes.ROUTES, *login_routes.ROUTES,
                *templates.ROUTES],
        middleware=[Middleware(Guard, settings=settings, sessions=sessions)],
        exception_handlers={GanDenoiseError: _explain, HTTPException: _explain_http,
                            ClientDisconnect: _gone},
        lifespan=_lifespan,
    )
    state = app.state
    state.settings, state.models, state.sessions, state.tabs = settings, models, sessions, TABS
    state.passwords = PasswordCheck(settings.password) if settings.password else None
    state.preview_limit = asyncio.Semaphore(PREVIEWS_AT_ONCE)
    state.jobs, state.training = JobQueue(settings), Training(settings, models)
    return app


def close_app(app: Starlette) -> None:
    """Stop all work and delete the files of all sessions; may be called twice."""
    app.state.training.close()
    app.state.jobs.close()
    app.state.sessions.close()


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    """End sessions whose time is over while the server runs, and all of them with it."""

    async def expire() -> None:
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            await asyncio.to_thread(app.state.sessions.end_expired)

    task = asyncio.create_task(expire())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.to_thread(close_app, app)


async def _explain(request: Request, error: Exception) -> Response:
    """Answer with the reason and the way out in one line; who stalls is not waited for."""
    status = getattr(error, "status", 400)
    headers = {"connection": "close"} if status == HTTPStatus.REQUEST_TIMEOUT else None
    return JSONResponse({"error": str(error)}, status, headers)


async def _explain_http(request: Request, error: Exception) -> Response:
    """Answer to an address or a method that there is not."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody reads the answer: the browser has ended the connection."""
    return Response(status_code=400)
