"""The commands. Each imports what it needs only when it is run, so that the operator carries nothing it does not use."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from serinus.cli.dora import app as dora

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Progressive delivery for Kubernetes.")
app.add_typer(dora, name="dora")


class Hold(StrEnum):
    """How new versions are held."""

    policy = "policy"
    pause = "pause"


def _seconds(text: str) -> float:
    """An option that is a length of time."""
    from serinus.api.base import parse_duration

    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong)) from None
    if seconds <= 0:
        raise typer.BadParameter("it must be above 0s")
    return seconds


def _share(text: str) -> float:
    """An option that is a percentage."""
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?%", text) or float(text[:-1]) > 100:
        raise typer.BadParameter(f"{text!r} is not a percentage such as 5% or 0.1%")
    return float(text[:-1]) / 100


def _moment(text: str) -> datetime | None:
    """An option that is a moment, or nothing. Without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a moment such as 2026-11-24T03:10:00Z") from None
    return moment.replace(tzinfo=moment.tzinfo or UTC) if moment else None


def _or_say(work: Callable[[], T]) -> T:
    """`work`, or what was wrong with what it was given, and exit code 1."""
    from serinus.cli.files import UsageError

    try:
        return work()
    except UsageError as wrong:
        typer.secho(str(wrong), fg="red", err=True)
        raise typer.Exit(1) from None


@app.command()
def controller(
    prometheus_url: Annotated[str, typer.Option(help="Where metrics are asked; without it every check on one waits.")] = "",
    gateway_metrics_url: Annotated[
        list[str] | None,
        typer.Option(help="A gateway's own metrics, for source: direct; every address of its host. May be given several times."),
    ] = None,
    sink_url: Annotated[list[str] | None, typer.Option(help="Where CDEvents are posted; may be given several times.")] = None,
    sink_tokens: Annotated[
        Path | None, typer.Option(help="A folder with a file for each sink that wants a bearer token, called like its host.")
    ] = None,
    hold: Annotated[
        Hold, typer.Option(help="policy: by the admission policy; pause: by keeping Deployments paused.")
    ] = Hold.policy,
    namespace: Annotated[list[str] | None, typer.Option(help="Watch these only; all without.")] = None,
    cluster: Annotated[str, typer.Option(help="This cluster's name in events.")] = "default",
    port: Annotated[int, typer.Option(help="/metrics, /healthz and /readyz.")] = 8080,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    leader_election: Annotated[bool, typer.Option(help="Only one of several replicas acts.")] = True,
) -> None:
    """Run the operator, in a cluster or with a kubeconfig."""
    from serinus.controller.config import Config
    from serinus.controller.main import run

    config = Config(
        prometheus_url=prometheus_url,
        gateway_metrics_urls=tuple(gateway_metrics_url or ()),
        sinks=tuple(sink_url or ()),
        sink_tokens=sink_tokens,
        hold=hold.value,
        namespaces=tuple(namespace or ()),
        cluster=cluster,
        port=port,
        log_level=log_level,
        leader_election=leader_election,
    )
    asyncio.run(run(config))


@app.command()
def status(
    name: Annotated[str, typer.Argument(help="The Canary.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")] = "default",
    wait: Annotated[bool, typer.Option("--wait", help="Until the release under way has ended.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 3600.0,
) -> None:
    """Say how a Canary's newest release fares; exit 0 if it serves, 1 if it was rolled back, 2 if it did not end in time."""
    from serinus.cli.status import report

    raise typer.Exit(asyncio.run(report(namespace, name, wait, timeout)))


@app.command()
def why(
    name: Annotated[str, typer.Argument(help="The Canary.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")] = "default",
    release: Annotated[str, typer.Option(help="One of its releases; the newest without.")] = "",
) -> None:
    """Say what became of a Canary's newest release: when, by which numbers, and what to do next."""
    from serinus.cli.why import report

    raise typer.Exit(asyncio.run(report(namespace, name, release)))


@app.command()
def simulate(
    files: Annotated[
        list[Path], typer.Argument(help="The Canary's file, and those of its MetricTemplates; - for standard input.")
    ],
    rate: Annotated[float, typer.Option(min=0.001, help="Requests a second, over both versions.")] = 100.0,
    serving: Annotated[str, typer.Option(help="How many of the serving version's requests are bad.")] = "0.1%",
    canary: Annotated[
        list[str] | None, typer.Option(help="How many of the canary's are; may be given several times. 5% without.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Rollouts for each failure rate.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 1,
    scrape: Annotated[str, typer.Option(help="Time between two scrapes: how old samples can be.")] = "5s",
    clump: Annotated[int, typer.Option(min=1, help="Bad requests come in bursts of this many.")] = 1,
    limit: Annotated[str, typer.Option(help="Virtual time after which a rollout has not ended.")] = "1h",
    check: Annotated[str, typer.Option(help="The ratio by which requests are bad; the first without.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON in place of the table.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Write when bad versions are rolled back to this SVG file.")] = None,
) -> None:
    """Roll a Canary out thousands of times under virtual time: how soon a bad version goes back, how often a good one does."""
    from serinus.cli import files as manifests
    from serinus.cli import simulate as simulation
    from serinus.simulation.traffic import Load

    load = Load(rate, clump, _seconds(scrape))
    rates = (_share(serving), [_share(each) for each in canary or ["5%"]])
    _or_say(
        lambda: simulation.simulate(
            manifests.read(files),
            load,
            rates,
            check=check,
            runs=runs,
            seed=seed,
            limit=_seconds(limit),
            as_json=as_json,
            to=picture,
        )
    )


@app.command()
def replay(
    files: Annotated[
        list[Path],
        typer.Argument(help="The Canary's file, those of its MetricTemplates, perhaps that of a Release; - for standard input."),
    ],
    prometheus: Annotated[str, typer.Option(help="The address of a Prometheus that remembers the period.")],
    start: Annotated[str, typer.Option(help="When traffic began, such as 2026-11-24T03:10:00Z; the Release's without.")] = "",
    end: Annotated[str, typer.Option(help="Until when; the Release's without.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The Canary's; what its manifest says without.")] = "",
    exporter: Annotated[str, typer.Option(help="Whose metrics builtin checks read, such as traefik.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="All looks, as JSON.")] = False,
) -> None:
    """Say what a Canary would have decided over a recorded period, look by look; exit 1 if it had rolled back, else 0."""
    from serinus.cli import files as manifests
    from serinus.cli import replay as recorded

    def work() -> int:
        read = manifests.read(files, namespace)
        when = recorded.period(read, _moment(start), _moment(end))
        return recorded.replay(read, prometheus, when, exporter or None, as_json)

    raise typer.Exit(_or_say(work))


if __name__ == "__main__":
    app()
