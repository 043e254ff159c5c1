"""The verb `serve`: a page to denoise on, for a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_denoise.cli.console import print_line
from gan_denoise.cli.options import Threads, require

Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", show_default=False,
                 help="Model folder that the page offers too; may be repeated."),
]
Host = Annotated[
    str, typer.Option(help="Address to listen on; one that others reach asks for --password.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")]
Password = Annotated[
    str | None,
    typer.Option(envvar="GAN_DENOISE_PASSWORD", show_default=False, show_envvar=True,
                 help="What visitors must give."),
]
AllowedHosts = Annotated[
    list[str] | None,
    typer.Option("--allow-host", metavar="NAME", show_default=False,
                 help="A name under which the page is reached; may be repeated."),
]
DataFolders = Annotated[
    list[Path] | None,
    typer.Option("--data", metavar="FOLDER", exists=True, file_okay=False, show_default=False,
                 help="Folder whose recordings the training tab may use; may be repeated."),
]
RunsFolder = Annotated[
    Path, typer.Option("--runs", metavar="FOLDER", help="Folder of the training tab's runs.")
]
MaxMegabytes = Annotated[
    float, typer.Option("--max-mb", metavar="MB", min=0.001, help="Largest upload.")
]
MaxMinutes = Annotated[
    float, typer.Option(metavar="MIN", min=0.001, help="Longest recording.")
]
Workers = Annotated[
    int, typer.Option(metavar="N", min=1, help="Recordings that are denoised at once.")
]
Queue = Annotated[
    int, typer.Option(metavar="N", min=0, help="Recordings that may wait.")
]
PerSession = Annotated[
    int, typer.Option(metavar="N", min=1, help="Recordings of one visitor under way at once.")
]
SessionMinutes = Annotated[
    float,
    typer.Option(metavar="MIN", min=0.1,
                 help="A visitor's files are deleted so long after the last sign of the page."),
]


def serve(
    model: Models = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    password: Password = None,
    allow_host: AllowedHosts = None,
    data: DataFolders = None,
    runs: RunsFolder = Path("runs"),
    max_mb: MaxMegabytes = 1000,
    max_minutes: MaxMinutes = 120,
    workers: Workers = 1,
    threads: Threads = 0,
    queue: Queue = 32,
    per_session: PerSession = 3,
    session_minutes: SessionMinutes = 30,
) -> None:
    """Serve a page to denoise recordings on, and to hear them.

    Only programs of this machine reach it unless --host says otherwise. Files are deleted when
    their session ends, and all of them with the server.
    """
    require("serve", "starlette", "uvicorn", extra="web")
    from gan_denoise.pages.server import serve as run
    from gan_denoise.pages.settings import ServeSettings

    settings = ServeSettings(
        models=model or (), host=host, port=port, password=password or None,
        allowed_hosts=allow_host or (), data=[folder.resolve() for folder in data or ()],
        runs=runs.resolve(), max_megabytes=max_mb, max_minutes=max_minutes, workers=workers,
        threads=threads,
        max_waiting=queue, max_per_session=per_session, session_minutes=session_minutes,
    )
    run(settings, lambda address: print_line(f"{address} (Ctrl-C ends it)"))


VERBS = (serve,)
