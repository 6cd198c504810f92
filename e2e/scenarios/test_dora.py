"""The measuring service in the cluster: its figures are what the Releases say, recomputed here."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Any

import pytest
from e2e import follow, install, kubectl, shop, sink

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME, SECRET, POD = "checkout", "dora-tokens", "serinus-dora-0"
TOKENS = {"cdevents": "told-by-the-operator", "github": "told-by-a-forge", "reading": "may-read"}
REPOSITORY = {"full_name": "acme/shop", "html_url": "https://github.com/acme/shop", "default_branch": "main"}
COMMIT = "c0ffee" + 34 * "0"
#: One request from within the Pod; what it is comes on standard input.
ASK = """
import json, sys, urllib.error, urllib.request
asked = json.load(sys.stdin)
body = asked["body"].encode() if asked["body"] else None
request = urllib.request.Request("http://127.0.0.1:8090" + asked["path"], body, asked["headers"])
try:
    answer = urllib.request.urlopen(request, timeout=10)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps([answer.status, json.loads(answer.read())]))
"""


@pytest.fixture
def dora(space: str) -> Iterator[str]:
    """The chart with it, then without it again."""
    tokens = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": install.NAMESPACE}}
    kubectl.apply({**tokens, "stringData": TOKENS})
    on = ("dora.enabled=true", f"dora.secret={SECRET}", "dora.persistence.enabled=false")
    try:
        install.install(f"events.sinks[0]={sink.URL}", *on)
        yield space
    finally:
        install.install(f"events.sinks[0]={sink.URL}")
        kubectl.run("delete", "secret", SECRET, "-n", install.NAMESPACE)


def ask(path: str, body: str = "", **headers: str) -> tuple[int, Any]:
    """From within the Pod, so that no port has to be opened."""
    known = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKENS['reading']}"}
    known |= {name.replace("_", "-"): value for name, value in headers.items()}
    asked = json.dumps({"path": path, "body": body, "headers": known})
    status, answer = json.loads(kubectl.run("exec", "-i", POD, "-n", install.NAMESPACE, "--", "python3", "-c", ASK, stdin=asked))
    return status, answer


def webhook(action: str, **fields: Any) -> None:
    """As GitHub signs it."""
    known = {"number": 7, "title": "A better checkout", "html_url": "https://github.com/acme/shop/pull/7", "labels": []}
    known |= {"user": {"login": "mona", "type": "User"}, "head": {"ref": "better", "sha": COMMIT}, "base": {"ref": "main"}}
    body = json.dumps({"action": action, "repository": REPOSITORY, "pull_request": known | fields})
    signature = hmac.new(TOKENS["github"].encode(), body.encode(), hashlib.sha256).hexdigest()
    headers = {"X_GitHub_Event": "pull_request", "X_GitHub_Delivery": f"{action}-{time.time()}"}
    assert ask("/ingest/github", body, **headers, X_Hub_Signature_256=f"sha256={signature}") == (202, {"facts": 1})


def test_the_figures_are_what_the_releases_say(dora: str) -> None:
    space = dora
    opened = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=20)
    merged = opened + timedelta(minutes=19)
    dates = {"created_at": f"{opened:%Y-%m-%dT%H:%M:%SZ}", "updated_at": f"{merged:%Y-%m-%dT%H:%M:%SZ}", "closed_at": None}
    webhook("opened", **dates, merged=False, merged_at=None, merge_commit_sha=None)
    dates |= {"closed_at": dates["updated_at"], "merged_at": dates["updated_at"]}
    webhook("closed", **dates, merged=True, merge_commit_sha=COMMIT)

    follow.serve(space)
    load = follow.Load(space, shop.host(NAME, space), duration=200)
    load.start()
    kubectl.apply(shop.canary(NAME, space, shop.steps("2s", 20, 100), metricsDelay="6s"))
    follow.phase(NAME, space, "Stable")
    facts = (f"serinus.dev/commit={COMMIT}", "serinus.dev/repository=https://github.com/acme/shop")
    kubectl.run("annotate", "deployment", NAME, "-n", space, *facts)
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
        status, figures = ask(f"/figures?{window}")
        assert status == 200, figures
        rate = figures["failure_rate"]["rate"]
        return figures if rate["n"] == 2 and figures["recovery"]["every"]["n"] == 1 else None

    figures = kubectl.until("both releases are counted", both, timeout=20)
    promoted, failed = (follow.times(release) for release in (good, bad))
    assert (figures["frequency"]["n"], figures["frequency"]["keys"]) == (1, [good["metadata"]["uid"]])
    lead = figures["lead_time"]["opened"]
    assert (lead["n"], lead["median"]) == (1, floor(promoted["promoted"]) - int(opened.timestamp()))
    assert (figures["failure_rate"]["rate"]["count"], figures["failure_rate"]["rate"]["keys"]) == (1, [bad["metadata"]["uid"]])
    assert figures["recovery"]["every"]["median"] == floor(failed["zeroVerified"]) - floor(failed["decided"])
    assert figures["rework"]["rate"]["count"] == 0
    assert ask(f"/figures?{window}", Authorization="Bearer guessed")[0] == 401
