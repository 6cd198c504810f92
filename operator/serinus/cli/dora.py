"""`serinus dora`: measuring delivery."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from serinus.dora.facts import Fact
    from serinus.dora.metrics import Five, Scope
    from serinus.dora.service.config import Config

app = typer.Typer(no_args_is_help=True)

#: Reasons that are told.
_SHOWN = 20

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
    uvicorn.run(application(settings), host=host, port=port, log_config=None, access_log=False, server_header=False)


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
        list[Path] | None,
        typer.Argument(
            help="Files of facts, one JSON object a line, as /facts exports them; folders of webhooks: <name>.json, and"
            " <name>.headers.json beside it."
        ),
    ] = None,
    releases: Annotated[
        bool, typer.Option("--releases", help="The Release objects of the cluster that kubectl talks to.")
    ] = False,
    cluster: Annotated[str, typer.Option(help="The cluster's name, as the operator has it.")] = "default",
    git: Annotated[Path | None, typer.Option(help="A clone, whose commits and merges are taken in.")] = None,
    repository: Annotated[str, typer.Option(help="With --git: github.com/acme/shop; without, what its origin says.")] = "",
    branch: Annotated[str, typer.Option(help="With --git: the branch that is released from; without, what is checked out.")] = "",
    deploys: Annotated[Path | None, typer.Option(help="A CSV of deployments: service,environment,commit,moment,outcome.")] = None,
    source: Annotated[str, typer.Option(help="With a folder: who sent the webhooks, where no headers say so.")] = "",
    config: Settings = None,
) -> None:
    """Take history in. Once more changes nothing."""
    from serinus.dora.history import Unreadable, of_cluster, of_file, write

    settings = _settings(config)
    refused = 0
    try:
        for path in files or []:
            if path.is_dir():
                refused += _webhooks(path, source, settings)
            else:
                typer.echo(f"{path}: {write(settings.database, of_file(path))} facts")
        if git is not None:
            _history(git, repository, branch, settings)
        if deploys is not None:
            _deployments(deploys, settings)
        if releases:
            typer.echo(f"releases of {cluster}: {write(settings.database, of_cluster(cluster))} facts")
    except Unreadable as wrong:
        typer.secho(str(wrong), fg="red", err=True)
        raise typer.Exit(1) from None
    if refused:
        raise typer.Exit(1)


def _webhooks(folder: Path, source: str, settings: Config) -> int:
    """Takes in what can be read, and says of the rest why it cannot; returns how many those are."""
    from serinus.dora import backfill
    from serinus.dora.history import Unreadable, write

    paths, wrong = backfill.payload_files(folder), list[str]()

    def facts() -> Iterator[Fact]:
        with typer.progressbar(paths, label=str(folder), file=sys.stderr) as bar:
            for path in bar:
                try:
                    several = list(backfill.payloads(path))
                except Unreadable as reason:
                    wrong.append(str(reason))
                    continue
                for payload in several:
                    try:
                        said = backfill.of_payload(payload, source, settings.reading)
                    except Unreadable as reason:
                        wrong.append(str(reason))
                    else:
                        yield from said

    count = write(settings.database, facts())
    typer.echo(f"{folder}: {count} facts of {len(paths)} files, {len(wrong)} refused")
    for reason in wrong[:_SHOWN]:
        typer.secho(reason, fg="red", err=True)
    if len(wrong) > _SHOWN:
        typer.secho(f"and {len(wrong) - _SHOWN} more", fg="red", err=True)
    return len(wrong)


def _history(folder: Path, repository: str, branch: str, settings: Config) -> None:
    from serinus.dora import backfill
    from serinus.dora.history import Unreadable, write
    from serinus.dora.repository import canonical

    branch = branch or backfill.branch_of(folder)
    name = canonical(repository) or backfill.origin_of(folder)
    if not name:
        raise Unreadable(f"{folder} has no origin: say which repository it is, as in --repository github.com/acme/shop")
    commits = backfill.count_commits(folder, branch)
    found = backfill.of_repository(folder, name, branch)

    def facts() -> Iterator[Fact]:
        with typer.progressbar(found, length=commits, label=f"{name} {branch}", file=sys.stderr) as bar:
            for _, said in bar:
                yield from said

    typer.echo(f"{name} {branch}: {write(settings.database, facts())} facts of {commits} commits")


def _deployments(path: Path, settings: Config) -> None:
    from serinus.dora import backfill
    from serinus.dora.history import write

    releases = list(backfill.of_deploys(path))  # all or none: whoever mends a line starts again
    with typer.progressbar(releases, label=str(path), file=sys.stderr) as bar:
        typer.echo(f"{path}: {write(settings.database, bar)} facts")


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

    keeper = Keeper(connect(settings.database), settings.catalog)
    keeper.catch_up()
    window = Window.of_days(first, end, ZoneInfo(settings.zone))
    return five(keeper.shelf(scope, window), window, scope)
