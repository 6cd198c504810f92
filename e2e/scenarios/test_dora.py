"""The measuring service in the cluster: its figures are what the Releases say, recomputed here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Any

import pytest
from e2e import dora, follow, install, kubectl, shop, sink

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME, COMMIT = "checkout", "c0ffee" + 34 * "0"


@pytest.fixture
def measured(space: str) -> Iterator[str]:
    """The chart with it, then without it again."""
    sending = f"events.sinks[0]={sink.URL}"
    dora.tokens()
    try:
        install.install(sending, *dora.VALUES)
        yield space
    finally:
        install.install(sending)
        kubectl.run("delete", "secret", dora.SECRET, "-n", install.NAMESPACE)


def test_the_figures_are_what_the_releases_say(measured: str) -> None:
    space = measured
    opened = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=20)
    dora.change(7, "A better checkout", COMMIT, opened, opened + timedelta(minutes=19))

    follow.serve(space)
    load = follow.Load(space, shop.host(NAME, space), duration=200)
    load.start()
    kubectl.apply(shop.canary(NAME, space, shop.steps("2s", 20, 100), metricsDelay="6s"))
    follow.phase(NAME, space, "Stable")
    dora.annotate(space, NAME, COMMIT)
    follow.set_env(space, MESSAGE="v2")
    good = follow.ended(space, "v2")
    assert good["status"]["outcome"] == "Promoted"
    follow.set_env(space, MESSAGE="v3", FAIL_RATE="0.3333")
    bad = follow.ended(space, "v3")
    assert bad["status"]["outcome"] == "RolledBack"
    load.stop()

    today = datetime.now(UTC).date()
    window = f"start={today - timedelta(days=1)}&end={today + timedelta(days=1)}&service={space}/{NAME}"

    def both() -> Any:
        status, figures = dora.ask(f"/figures?{window}")
        assert status == 200, figures
        counted = figures["failure_rate"]["rate"]["n"], figures["recovery"]["every"]["n"]
        return figures if counted == (2, 1) else None

    figures = kubectl.until("both releases are counted", both, timeout=20)
    promoted, failed = (follow.times(release) for release in (good, bad))
    assert (figures["frequency"]["n"], figures["frequency"]["keys"]) == (1, [good["metadata"]["uid"]])
    lead = figures["lead_time"]["opened"]
    assert (lead["n"], lead["median"]) == (1, floor(promoted["promoted"]) - int(opened.timestamp()))
    rate = figures["failure_rate"]["rate"]
    assert (rate["count"], rate["keys"]) == (1, [bad["metadata"]["uid"]])
    assert figures["recovery"]["every"]["median"] == floor(failed["zeroVerified"]) - floor(failed["decided"])
    assert figures["rework"]["rate"]["count"] == 0
    assert dora.ask(f"/figures?{window}", Authorization="Bearer guessed")[0] == 401
