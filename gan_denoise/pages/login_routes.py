"""The page that asks for the password of a server that others reach."""

from __future__ import annotations

import math
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gan_denoise.pages.security import session_cookie
from gan_denoise.pages.templates import page

LARGEST_FORM = 4096  # bytes


async def ask(request: Request) -> Response:
    """Return the page with the form."""
    return page("login.html.j2", request, message="")


async def check(request: Request) -> Response:
    """Compare the password; a right one begins a session of its own."""
    state = request.app.state
    address = request.client.host if request.client else ""
    if state.passwords is None:
        return RedirectResponse(".", 303)
    wait = state.passwords.wait(address)
    if wait > 0:
        answer = page("login.html.j2", request, status=429,
                      message=f"Too many wrong passwords; try again in {math.ceil(wait)} s.")
        answer.headers["retry-after"] = str(math.ceil(wait))
        return answer
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            return page("login.html.j2", request, status=413, message="That is no password.")
    given = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
    if not state.passwords.right(given, address):
        return page("login.html.j2", request, status=403, message="That is not the password.")
    session = state.sessions.new(authenticated=True)
    return RedirectResponse("/", 303,
                            headers={"set-cookie": session_cookie(session.id, request)})


ROUTES = (Route("/login", ask), Route("/login", check, methods=["POST"]))
