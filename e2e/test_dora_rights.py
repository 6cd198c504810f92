"""Who may read and mark, as a real API server sees it: the service runs beside it, with the chart's rights and no others.

Needs the cluster of `make cluster-up`, but not the operator.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from e2e import kubectl
from tests.test_dora_service import COMMAND, ask, serving

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

RELEASE = f"rights-{os.getpid()}"
DORA = f"{RELEASE}-serinus-dora"
MARK = json.dumps({"about": "release/r1", "verdict": "fine", "reason": "the load test broke it"}).encode()
FIGURES = "figures?start=2026-10-01&end=2026-11-01"


@pytest.fixture
def space(running: None) -> Iterator[str]:
    """A namespace with the chart's rights and four accounts: one for each role, one for neither, one with a role in there."""
    words = ("--set", "dora.enabled=true,dora.secret=some,rbac.aggregate=false", "--show-only", "templates/dora-rights.yaml")
    with kubectl.fresh_namespace(f"e2e-{RELEASE}") as name:
        rights = kubectl.helm("template", RELEASE, "charts/serinus", "-n", name, *words)
        kubectl.run("apply", "-f", "-", stdin=rights)
        try:
            for account in ("reader", "editor", "nobody", "local"):
                kubectl.run("create", "serviceaccount", account, "-n", name)
            for account in ("reader", "editor"):
                subject = f"--serviceaccount={name}:{account}"
                kubectl.run("create", "clusterrolebinding", f"{DORA}-{account}", f"--clusterrole={DORA}-{account}", subject)
            here = ("-n", name, f"--clusterrole={DORA}-editor", f"--serviceaccount={name}:local")
            kubectl.run("create", "rolebinding", "local", *here)
            yield name
        finally:
            kubectl.run("delete", "clusterrolebinding", f"{DORA}-reader", f"{DORA}-editor", "--ignore-not-found")
            kubectl.run("delete", "--ignore-not-found", "-f", "-", stdin=rights)


def token(account: str, space: str, *words: str) -> str:
    return kubectl.run("create", "token", account, "-n", space, *words).strip()


def environment(space: str, folder: Path) -> Mapping[str, str]:
    """The service is its own account to the API server, not an administrator."""
    known = yaml.safe_load(kubectl.KUBECONFIG.read_text())
    for user in known["users"]:
        user["user"] = {"token": token(DORA, space)}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(known))
    return {"KUBECONFIG": str(path)}


def test_the_api_server_says_who_may_read_and_mark(space: str, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/dora.db"
    with serving(database, tmp_path, environment(space, tmp_path), kubernetes=True) as (address, _):

        def answers(account: str) -> tuple[int, int]:
            known = token(account, space) if account else "guessed"
            read = ask("GET", f"{address}/{FIGURES}", reading=known)[0]
            return read, ask("POST", f"{address}/marks", MARK, reading=known)[0]

        assert answers("reader") == (200, 403)
        assert answers("editor") == (200, 202)
        assert answers("nobody") == (403, 403)
        assert answers("local") == (403, 403), "a right in one namespace is none to the figures of all"
        assert answers("") == (401, 401)
        told = ask("GET", f"{address}/facts", reading=token("reader", space))[1]
        assert json.loads(told)["says"]["by"] == f"system:serviceaccount:{space}:editor"
        file = tmp_path / "token"
        file.write_text(token("reader", space))
        report = [*COMMAND[:-1], "report", "--from", address, "--token-file", str(file)]
        assert kubectl.call(*report).stdout.startswith("# Delivery of all services")


def test_a_token_of_another_audience_opens_nothing(space: str, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/dora.db"
    known = environment(space, tmp_path)
    with serving(database, tmp_path, known, kubernetes=True, audiences=["dora"]) as (address, _):
        assert ask("GET", f"{address}/{FIGURES}", reading=token("reader", space))[0] == 401
        assert ask("GET", f"{address}/{FIGURES}", reading=token("reader", space, "--audience=dora"))[0] == 200
