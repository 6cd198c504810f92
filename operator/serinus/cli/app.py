"""The commands. Each imports what it needs only when it is run, so that the operator carries nothing it does not use."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Progressive delivery for Kubernetes.")


class Hold(StrEnum):
    """How new versions are held."""

    policy = "policy"
    pause = "pause"


@app.command()
def controller(
    prometheus_url: Annotated[str, typer.Option(help="Where metrics are asked; without it every check on one waits.")] = "",
    sink_url: Annotated[list[str] | None, typer.Option(help="Where CDEvents are posted; may be given several times.")] = None,
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
        sinks=tuple(sink_url or ()),
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


if __name__ == "__main__":
    app()
