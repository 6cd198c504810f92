"""`serinus dora`: measuring delivery."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from serinus.dora.metrics import Five, Scope
    from serinus.dora.service.config import Config

app = typer.Typer(no_args_is_help=True)

Settings = Annotated[Path | None, typer.Option("--config", help="The file of settings; the defaults without.")]
Service = Annotated[str, typer.Option(help="Of one service only.")]
Team = Annotated[str, typer.Option(help="Of one team's services only.")]
Environment = Annotated[str, typer.Option(help="In one environment; without, in production.")]


@app.callback()
def needs() -> None:
    """Measure delivery: what happened, and the five figures of DORA."""
    if find_spec("sqlalchemy") is None:
        typer.secho("serinus dora needs more packages: pip install 'serinus[dora]'; the image has them", fg="red", err=True)
        raise typer.Exit(1)


#: Seconds that open requests have to end when it is told to.
LEAVING = 5


@app.command()
def serve(
    config: Settings = None,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.")] = 8090,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the measuring service: it takes what tools tell it, keeps it, and says what it comes to."""
    import uvicorn

    from serinus import logs
    from serinus.dora.service.app import application

    settings = _settings(config)
    logs.setup(log_level)
    app = application(settings)

    class Server(uvicorn.Server):
        """Ends the streams of those who listen, too."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if hasattr(app.state, "service"):
                app.state.service.leave()
            super().handle_exit(sig, frame)

    quiet = {"log_config": None, "access_log": False, "server_header": False}
    server = Server(uvicorn.Config(app, host=host, port=port, timeout_graceful_shutdown=LEAVING, **quiet))  # type: ignore[arg-type]
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise typer.Exit(3)


@app.command()
def report(
    week: Annotated[str, typer.Option(help="An ISO week such as 2026-W47; the last whole one without.")] = "",
    config: Settings = None,
    service: Service = "",
    team: Team = "",
    environment: Environment = "",
) -> None:
    """Print a week's five figures, its failures and its slowest changes, as Markdown."""
    from serinus.dora.metrics import Scope
    from serinus.dora.service.figures import markdown

    settings = _settings(config)
    first = _monday(week, _today(settings))
    scope = Scope(service, team, environment)
    of = service or team or "all services"
    year, number, _ = first.isocalendar()
    typer.echo(markdown(_five(settings, scope, first, first + timedelta(days=7)), f"Delivery of {of}, week {number} of {year}"))


@app.command()
def gate(
    max_cfr: Annotated[str, typer.Option(help="The change failure rate that is tolerated.")] = "2%",
    days: Annotated[int, typer.Option(min=1, help="Of the last so many days, today among them.")] = 28,
    config: Settings = None,
    service: Service = "",
    team: Team = "",
    environment: Environment = "",
) -> None:
    """Exit 1 if the change failure rate is above a limit, surely: so is the lower end of its 95 % interval; else 0."""
    from serinus.api.base import parse_percent
    from serinus.dora.metrics import Scope

    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?%", max_cfr):
        raise typer.BadParameter(f"{max_cfr!r} is not a percentage such as 2%")
    settings = _settings(config)
    end = _today(settings) + timedelta(days=1)
    rate = _five(settings, Scope(service, team, environment), end - timedelta(days=days), end).failure_rate.rate
    if rate.ratio is None or rate.low is None or rate.high is None:
        typer.echo(f"no release in {days} days: nothing to hold against anybody")
        return
    interval = f"95 % interval {rate.low:.1%} to {rate.high:.1%}"
    typer.echo(f"{rate.count} of {rate.n} releases failed in {days} days: {rate.ratio:.1%}, {interval}; tolerated {max_cfr}")
    if rate.low > parse_percent(max_cfr):
        raise typer.Exit(1)


@app.command("import")
def import_(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files of facts, one JSON object a line, as /facts exports them.")
    ] = None,
    releases: Annotated[
        bool, typer.Option("--releases", help="The Release objects of the cluster that kubectl talks to.")
    ] = False,
    cluster: Annotated[str, typer.Option(help="The cluster's name, as the operator has it.")] = "default",
    config: Settings = None,
) -> None:
    """Take history in. Once more changes nothing."""
    from serinus.dora.history import Unreadable, of_cluster, of_file, write

    settings = _settings(config)
    try:
        for path in files or []:
            typer.echo(f"{path}: {write(settings.database, of_file(path))} facts")
        if releases:
            typer.echo(f"releases of {cluster}: {write(settings.database, of_cluster(cluster))} facts")
    except Unreadable as wrong:
        typer.secho(str(wrong), fg="red", err=True)
        raise typer.Exit(1) from None


def _settings(path: Path | None) -> Config:
    from serinus.dora.service.config import Wrong, load

    try:
        return load(path)
    except Wrong as wrong:
        typer.secho(str(wrong), fg="red", err=True)
        raise typer.Exit(1) from None


def _today(settings: Config) -> date:
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    return datetime.now(UTC).astimezone(ZoneInfo(settings.zone)).date()


def _monday(week: str, today: date) -> date:
    if not week:
        return today - timedelta(days=today.weekday() + 7)
    known = re.fullmatch(r"(\d{4})-W(\d{2})", week)
    try:
        return date.fromisocalendar(int(known[1]), int(known[2]), 1) if known else date.fromisoformat("")
    except ValueError:
        raise typer.BadParameter(f"{week!r} is not a week such as 2026-W47") from None


def _five(settings: Config, scope: Scope, first: date, end: date) -> Five:
    from zoneinfo import ZoneInfo

    from serinus.dora.figures import Window
    from serinus.dora.metrics import five
    from serinus.dora.store.keeper import Keeper
    from serinus.dora.store.schema import connect

    zone = ZoneInfo(settings.zone)
    keeper = Keeper(connect(settings.database), settings.catalog, zone)
    keeper.catch_up()
    window = Window.of_days(first, end, zone)
    return five(keeper.shelf(scope, window), window, scope)
