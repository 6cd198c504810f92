"""`serinus dora`: measuring delivery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Measure delivery: what happened, and the five figures of DORA.")


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="The file of settings; the defaults without.")] = None,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.")] = 8090,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the measuring service: it takes what tools tell it, and keeps it."""
    import uvicorn

    from serinus import logs
    from serinus.dora.service.app import application
    from serinus.dora.service.config import Wrong, load

    try:
        settings = load(config)
    except Wrong as wrong:
        typer.secho(str(wrong), fg="red", err=True)
        raise typer.Exit(1) from None
    logs.setup(log_level)
    uvicorn.run(application(settings), host=host, port=port, log_config=None, access_log=False, server_header=False)
