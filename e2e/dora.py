"""The measuring service in the cluster, and a pipeline that is played to it: changes opened and merged, as GitHub signs them."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from datetime import datetime
from typing import Any

from e2e import install, kubectl

SECRET, POD = "dora-tokens", "serinus-dora-0"
TOKENS = {"cdevents": "told-by-the-operator", "github": "told-by-a-forge", "reading": "may-read"}
#: As helm's --set.
VALUES = ("dora.enabled=true", f"dora.secret={SECRET}", "dora.persistence.enabled=false")
REPOSITORY = "https://github.com/acme/shop"
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


def tokens() -> None:
    """The Secret that `VALUES` name."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": install.NAMESPACE}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": install.NAMESPACE}}
    kubectl.apply(namespace, {**secret, "stringData": TOKENS})


def ask(path: str, body: str = "", **headers: str) -> tuple[int, Any]:
    """From within the Pod, so that no port has to be opened. Header names have _ for -."""
    known = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKENS['reading']}"}
    known |= {name.replace("_", "-"): value for name, value in headers.items()}
    asked = json.dumps({"path": path, "body": body, "headers": known})
    status, answer = json.loads(kubectl.run("exec", "-i", POD, "-n", install.NAMESPACE, "--", "python3", "-c", ASK, stdin=asked))
    return status, answer


def report(week: str) -> str:
    """As the command prints it."""
    command = ("serinus", "dora", "report", "--week", week, "--config", "/etc/serinus/dora.yaml")
    return kubectl.run("exec", POD, "-n", install.NAMESPACE, "--", *command)


def change(number: int, title: str, commit: str, opened: datetime, merged: datetime) -> None:
    """A pull request that was opened and merged: two deliveries."""
    dates = {"created_at": _moment(opened), "updated_at": _moment(opened), "closed_at": None, "merged_at": None}
    said = {"number": number, "title": title, "html_url": f"{REPOSITORY}/pull/{number}", "labels": []}
    said |= {"user": {"login": "mona", "type": "User"}, "head": {"ref": "better", "sha": commit}, "base": {"ref": "main"}}
    _deliver("opened", said | dates | {"merged": False, "merge_commit_sha": None})
    dates |= dict.fromkeys(("updated_at", "closed_at", "merged_at"), _moment(merged))
    _deliver("closed", said | dates | {"merged": True, "merge_commit_sha": commit})


def annotate(space: str, name: str, commit: str) -> None:
    """What is in the Deployment next is of this commit, as a pipeline writes it."""
    facts = (f"serinus.dev/commit={commit}", f"serinus.dev/repository={REPOSITORY}")
    kubectl.run("annotate", "deployment", name, "-n", space, "--overwrite", *facts)


def _deliver(action: str, said: dict[str, Any]) -> None:
    repository = {"name": "shop", "full_name": "acme/shop", "html_url": REPOSITORY, "default_branch": "main"}
    body = json.dumps({"action": action, "repository": repository, "pull_request": said})
    signature = hmac.new(TOKENS["github"].encode(), body.encode(), hashlib.sha256).hexdigest()
    headers = {"X_GitHub_Event": "pull_request", "X_GitHub_Delivery": str(uuid.uuid4())}
    answer = ask("/ingest/github", body, **headers, X_Hub_Signature_256=f"sha256={signature}")
    assert answer == (202, {"facts": 1}), answer


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
