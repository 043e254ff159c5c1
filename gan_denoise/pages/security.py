"""What a request must fulfil before any route sees it, and what every response carries.

Host header: a name that resolves to this machine only since a moment ago (DNS rebinding) is
refused. Origin: a page of another site may not change anything here (cross-site request forgery).
Content security policy: pages load nothing from other hosts and run no script but those of the
package.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
import time
from collections import deque
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gan_denoise.pages.sessions import COOKIE, Sessions
from gan_denoise.pages.settings import ServeSettings

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
OPEN_PATHS = ("/login", "/static/")  # without a password
ATTEMPTS, WINDOW_SECONDS = 5, 60.0  # wrong passwords of one address
ALL_ATTEMPTS = 50  # wrong passwords of all addresses in the window
HEADERS = {
    "content-security-policy":
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "media-src 'self' data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
}


class Guard:
    """ASGI middleware: host, origin, session and password of a request; headers of the response.

    A request that passes has its session in `request.state.session`.

    Args:
        app: The application.
        settings: Settings of the server.
        sessions: Its sessions.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, sessions: Sessions):
        self.app, self.settings, self.sessions = app, settings, sessions
        self._hosts = {"localhost", settings.host.strip("[]").lower(), socket.gethostname().lower(),
                       *(name.lower() for name in settings.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        request = Request(scope)
        session = self.sessions.find(request.cookies.get(COOKIE))
        cookie = None

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith("/static/"):  # a host may be none
                    headers.setdefault("cache-control", "no-store")
                if cookie is not None:
                    headers.append("set-cookie", cookie)
            await send(message)

        refusal = self._refuse(request, session is not None and session.authenticated)
        if refusal is None and not request.url.path.startswith(OPEN_PATHS):
            if session is None:
                session = self.sessions.new()
                cookie = session_cookie(session.id, request)
            session.touch()
            scope.setdefault("state", {})["session"] = session
        await (refusal or self.app)(scope, receive, send_guarded)

    def _refuse(self, request: Request, authenticated: bool) -> Response | None:
        """Return the response to a request that must not pass; None for one that may."""
        host = request.headers.get("host", "")
        if not self._known(host):
            return PlainTextResponse(
                f"{host or 'no host'}: this server is not reached under that name; start it with "
                "--allow-host NAME", 421)
        if request.method not in SAFE_METHODS and not _same_origin(request, host):
            return PlainTextResponse("requests of other sites are refused", 403)
        if (self.settings.password and not authenticated
                and not request.url.path.startswith(OPEN_PATHS)):
            if request.url.path.startswith("/api/"):
                return JSONResponse({"error": "give the password first: reload the page"}, 401)
            return RedirectResponse("/login", 303)
        return None

    def _known(self, host: str) -> bool:
        """Whether a Host header is an address or a name of this server."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._hosts:
                return True
            ipaddress.ip_address(name)  # of an address no other machine can take possession
        except ValueError:
            return False
        return True


def _same_origin(request: Request, host: str) -> bool:
    """Whether a request comes from a page of this server, or from no page.

    Browsers say where a request comes from in `Sec-Fetch-Site`, and in `Origin` for all but GET
    and HEAD; other programs, which have no visitor's cookies, may leave both out.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()


def session_cookie(identifier: str, request: Request) -> str:
    """Return the value of a Set-Cookie header for a session."""
    secure = "; Secure" if request.url.scheme == "https" else ""
    return f"{COOKIE}={identifier}; HttpOnly; SameSite=Strict; Path=/{secure}"


class PasswordCheck:
    """Compares passwords in constant time, and takes no more than a few wrong ones a minute.

    Args:
        password: The right one.
    """

    def __init__(self, password: str):
        self._digest = _digest(password)
        self._wrong: deque[tuple[float, str]] = deque()  # of the last minute: (time, address)

    def wait(self, address: str) -> float:
        """Return the seconds for which an address may try no password; 0: none."""
        now = time.monotonic()
        while self._wrong and self._wrong[0][0] < now - WINDOW_SECONDS:
            self._wrong.popleft()
        own = [moment for moment, other in self._wrong if other == address]
        if len(own) >= ATTEMPTS:
            return own[-ATTEMPTS] + WINDOW_SECONDS - now
        if len(self._wrong) >= ALL_ATTEMPTS:
            return self._wrong[-ALL_ATTEMPTS][0] + WINDOW_SECONDS - now
        return 0.0

    def right(self, password: str, address: str) -> bool:
        """Return whether a password is right; a wrong one is counted for its address."""
        if hmac.compare_digest(_digest(password), self._digest):
            return True
        self._wrong.append((time.monotonic(), address))
        return False


def _digest(password: str) -> bytes:
    """Return a digest of fixed length, so that the comparison does not tell the length."""
    return hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest()
