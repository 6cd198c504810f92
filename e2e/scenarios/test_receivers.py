"""A receiver that is out of order misses nothing."""

from __future__ import annotations

import pytest
from e2e import follow, kubectl, shop, sink

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

NAME = "checkout"


def test_events_arrive_in_order_when_the_sink_is_back(space: str) -> None:
    follow.serve(space, replicas=1)
    kubectl.apply(shop.canary(NAME, space, shop.steps("1s", 50, 100), metrics=[]))
    follow.phase(NAME, space, "Stable")
    sink.ask(f"refuse?namespace={space}")
    follow.set_env(space, MESSAGE="v2")
    release = follow.ended(space, "v2")
    assert release["status"]["outcome"] == "Promoted", "a release waits for no receiver"
    assert sink.kinds(space) == []
    refused = sink.received(space, taken=False)
    assert {sink.kind(e["event"]) for e in refused} == {"service.deployed"}, "the second waits for the first"
    sink.ask(f"accept?namespace={space}")
    kubectl.until("both arrive, in order", lambda: sink.kinds(space) == ["service.deployed", "service.upgraded"], timeout=60)

    def marked() -> bool:
        events = follow.releases(space, "v2")[-1]["status"]["events"]
        return len(events) == 2 and all(event.get("deliveredAt") for event in events)

    kubectl.until("the Release says that they are delivered", marked, timeout=10)
