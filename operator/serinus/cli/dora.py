"""`serinus dora`: measuring delivery."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, timedelta
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from serinus.dora.facts import Fact
    from serinus.dora.service.config import Config
    from serinus.dora.service.figures import Figures
    from serinus.dora.service.source import Source

app = typer.Typer(no_args_is_help=True)

#: Reasons that are told.
_SHOWN = 20

Settings = Annotated[Path | None, typer.Option("--config", help="The file of settings; the defaults without.")]
Service = Annotated[str, typer.Option(help="Of one service only.")]
Team = Annotated[str, typer.Option(help="Of one team's services only.")]
Environment = Annotated[str, typer.Option(help="In one environment; without, in production.")]
From = Annotated[
    str,
    typer.Option(
        "--from", metavar="URL", help="Ask a running service, such as http://serinus-dora:8090, instead of the database."
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", help="With --from: a file with the token that the service asks for. Else SERINUS_DORA_TOKEN is it."
    ),
]

#: Exit codes, beside 0, 1 and 2: the service gave no figures; the webhook does not take the report; it could not be reached.
UNREAD, REFUSED, UNSENT = 3, 4, 5


class Format(StrEnum):
    """How a report is printed."""

    markdown = "markdown"
    html = "html"


class Posted(StrEnum):
    """How a report is posted: a message as Slack, Mattermost and others take it, or the figures as JSON."""

    chat = "chat"
    json = "json"


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
    """Run the measuring service: it takes what tools tell it, keeps it, and says what it comes to.

    Who may read and mark: with `kubernetes: true` in the settings, whoever the cluster gives the right; `kubectl create token
    <service account>` gives a token to send as `Authorization: Bearer …`, or to log in with. Elsewhere whoever has
    SERINUS_DORA_SECRET_READING, and without it only this machine.
    """
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
    form: Annotated[Format, typer.Option("--format", help="HTML is one file, to print or to send.")] = Format.markdown,
    source: From = "",
    token_file: TokenFile = None,
    post: Annotated[
        str,
        typer.Option(metavar="URL", envvar="SERINUS_DORA_REPORT_URL", show_envvar=True, help="Also post it to this webhook."),
    ] = "",
    post_as: Annotated[
        Posted, typer.Option(help='chat: {"text": …}, as Slack and others take it. json: the figures, as GET /figures has them.')
    ] = Posted.chat,
) -> None:
    """Print a week's five figures, its failures and its slowest changes.

    Exits with 3 when the service of --from gives no figures, with 4 when the webhook does not take the report, and with 5 when
    the webhook could not be reached.
    """
    from serinus.dora.metrics import Scope
    from serinus.dora.service.figures import markdown
    from serinus.dora.service.report import html
    from serinus.dora.service.source import Unread

    _http("--post", post)
    known, scope = _source(config, source, token_file), Scope(service, team, environment)
    try:
        first = _monday(week) if week else _last_monday(known.today())
        figures = known.figures(scope, first, first + timedelta(days=7))
    except Unread as wrong:
        raise _ended(str(wrong), UNREAD) from None
    year, number, _ = first.isocalendar()
    title = f"Delivery of {service or team or 'all services'}, week {number} of {year}"
    typer.echo(html(figures, title) if form is Format.html else markdown(figures, title))
    if post:
        _post(post, post_as, figures, title)


def _post(url: str, post_as: Posted, figures: Figures, title: str) -> None:
    import asyncio
    import json
    from urllib.parse import urlsplit

    from serinus.dora.service.report import message
    from serinus.dora.service.webhook import TRIES, send

    body = figures.model_dump_json() if post_as is Posted.json else json.dumps({"text": message(figures, title)})
    delivery, host = asyncio.run(send(url, body.encode())), urlsplit(url).hostname
    if delivery.result == "refused":
        raise _ended(f"{host} does not take the report: {delivery.sentence}; look at the webhook's address", REFUSED)
    if delivery.result == "retry":
        raise _ended(f"{host} was tried {TRIES} times: {delivery.sentence}; the report is not posted", UNSENT)
    typer.echo(f"posted to {host}", err=True)


@app.command()
def gate(
    max_cfr: Annotated[str, typer.Option(help="The change failure rate that is tolerated.")] = "2%",
    days: Annotated[int, typer.Option(min=1, help="Of the last so many days, today among them.")] = 28,
    config: Settings = None,
    service: Service = "",
    team: Team = "",
    environment: Environment = "",
    source: From = "",
    token_file: TokenFile = None,
) -> None:
    """Exit 1 if the change failure rate is above a limit, surely: so is the lower end of its 95 % interval; else 0.

    Exits with 3 when the service of --from gives no figures.
    """
    from serinus.api.base import parse_percent
    from serinus.dora.metrics import Scope
    from serinus.dora.service.source import Unread

    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?%", max_cfr):
        raise typer.BadParameter(f"{max_cfr!r} is not a percentage such as 2%")
    known = _source(config, source, token_file)
    try:
        end = known.today() + timedelta(days=1)
        rate = known.figures(Scope(service, team, environment), end - timedelta(days=days), end).failure_rate.rate
    except Unread as wrong:
        raise _ended(str(wrong), UNREAD) from None
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


def _source(config: Path | None, url: str, token_file: Path | None) -> Source:
    from serinus.dora.service.source import Remote, Store

    if not url:
        return Store(_settings(config))
    _http("--from", url)
    try:
        token = (token_file.read_text() if token_file else os.environ.get("SERINUS_DORA_TOKEN", "")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{token_file} cannot be read: {error}", param_hint="--token-file") from None
    if not (token.isascii() and token.isprintable()):
        raise typer.BadParameter(f"there is no token in {token_file or 'SERINUS_DORA_TOKEN'}", param_hint="--token-file")
    return Remote(url, token)


def _http(option: str, url: str) -> None:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        good = not url or (parts.scheme in ("http", "https") and parts.hostname)
    except ValueError:
        good = False
    if not good:  # without showing it: it may be a secret
        raise typer.BadParameter("it has to begin with http:// or https:// and a host", param_hint=option)


def _ended(sentence: str, code: int) -> typer.Exit:
    typer.secho(sentence, fg="red", err=True)
    return typer.Exit(code)


def _last_monday(today: date) -> date:
    """Of the last whole week."""
    return today - timedelta(days=today.weekday() + 7)


def _monday(week: str) -> date:
    known = re.fullmatch(r"(\d{4})-W(\d{2})", week)
    try:
        return date.fromisocalendar(int(known[1]), int(known[2]), 1) if known else date.fromisoformat("")
    except ValueError:
        raise typer.BadParameter(f"{week!r} is not a week such as 2026-W47") from None
