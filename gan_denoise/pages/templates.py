"""The templates of the server's pages, rendered to text and to responses.

They lie in `templates/` beside those of the reports, whose styles and player they share. A page of
a tab extends `serve.html.j2`; its blocks are `head`, `content` and `scripts`. Styles and scripts
are files under `/static/`, as the content security policy allows none inside a page.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse
from starlette.routing import Route

import gan_denoise.reports
from gan_denoise.pages.settings import ServeError

_SHARED = Path(gan_denoise.reports.__file__).parent / "templates"
STATIC = {
    **{path.name: path for path in sorted((Path(__file__).parent / "static").iterdir())},
    **{name: _SHARED / name for name in ("page.css", "player.css", "player.js")},
}


def render(template: str, **context: object) -> str:
    """Return the text of a template; all text of the context is escaped.

    Raises:
        jinja2.UndefinedError: When the template uses a name that is not given.
    """
    return _environment().get_template(template).render(context)


def page(template: str, request: Request, status: int = 200, **context: object) -> HTMLResponse:
    """Return a page as the response to a request.

    Args:
        template: Name of a file in `templates/`.
        request: The request; the tabs of its application stand on the page.
        status: Status of the response.
        **context: What the template shows; `tab` is the name of the tab that is open.
    """
    context = {"tab": "", "data": None, "tabs": request.app.state.tabs,
               "settings": request.app.state.settings} | context
    return HTMLResponse(render(template, **context), status)


async def _static(request: Request) -> FileResponse:
    """Return a style or a script of the package."""
    try:
        path = STATIC[request.path_params["name"]]
    except KeyError:
        raise ServeError("there is no such file", status=404) from None
    return FileResponse(path, headers={"cache-control": "no-cache"})


ROUTES = (Route("/static/{name}", _static),)


@cache
def _environment() -> Environment:
    loaders = [PackageLoader("gan_denoise.pages"), PackageLoader("gan_denoise.reports")]
    return Environment(loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True)
