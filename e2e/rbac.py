"""The operator's rights, used against granted: `python -m e2e.rbac`, and at the end of `python -m e2e.scenarios`.

The local cluster's API server keeps an audit log of what the operator's service account asks for. That is compared with what the
chart grants. A grant that nothing used fails, and so does a request that no grant allows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from e2e import install, kubectl
from e2e.kubectl import Object

LOGS = kubectl.CLUSTER / "logs"
USER = f"system:serviceaccount:{install.NAMESPACE}:{install.RELEASE}"


@dataclass(frozen=True)
class Use:
    """What one request asked for. Empty strings stand for the core group, for all namespaces and for no name."""

    group: str
    #: With its subresource, as rules write it: pods/eviction.
    resource: str
    verb: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{'.' if self.group else ''}{self.group}{where}"


@dataclass(frozen=True)
class Grant:
    """One verb on one resource, and why the chart says that it is needed."""

    group: str
    resource: str
    verb: str
    #: Of a Role; empty for a ClusterRole.
    namespace: str = ""
    #: Only these objects; empty for all.
    names: tuple[str, ...] = ()
    reason: str = ""

    def covers(self, use: Use) -> bool:
        """It allows this."""
        same = (self.group, self.resource, self.verb) == (use.group, use.resource, use.verb)
        return same and self.namespace in ("", use.namespace) and (not self.names or use.name in self.names)

    def __str__(self) -> str:
        only = f" named {', '.join(self.names)}" if self.names else ""
        use = Use(self.group, self.resource, self.verb, self.namespace)
        return f"{use}{only} ({self.reason or 'no reason given'})"


# ---- granted ----


def rendered() -> str:
    """The chart's roles and bindings as Helm makes them, comments and all, with every value that adds a right."""
    words = ("template", install.RELEASE, "charts/serinus", "-n", install.NAMESPACE, "--set", "namespaces={some}")
    return kubectl.helm(*words, "--show-only", "templates/rbac.yaml")


def granted(text: str, user: str = USER) -> list[Grant]:
    """What the roles in `text` give to this account. A grant's reason is the comment beside its verb, or above its rule."""
    _, _, namespace, account = user.split(":")
    nodes = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node]
    documents = list(zip(nodes, [thing for thing in yaml.safe_load_all(text) if thing], strict=True))
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    bound = {
        (thing["roleRef"]["kind"], thing["roleRef"]["name"])
        for _, thing in documents
        if thing["kind"].endswith("RoleBinding") and subject in thing["subjects"]
    }
    lines = text.splitlines()
    return [
        grant
        for node, role in documents
        if (role["kind"], role["metadata"]["name"]) in bound
        for grant in _rules(node, role, lines)
    ]


def _rules(node: yaml.Node, role: Object, lines: list[str]) -> Iterator[Grant]:
    namespace = role["metadata"].get("namespace", "") if role["kind"] == "Role" else ""
    for written, rule in zip(_child(node, "rules").value, role["rules"], strict=True):
        above = _above(lines, written.start_mark.line)
        verbs = zip(_child(written, "verbs").value, rule["verbs"], strict=True)
        reasons = {verb: _beside(lines[place.start_mark.line]) or above for place, verb in verbs}
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb, reason in reasons.items():
                    yield Grant(group, resource, verb, namespace, tuple(rule.get("resourceNames") or ()), reason)


def _child(node: yaml.Node, key: str) -> yaml.Node:
    found: yaml.Node = next(value for name, value in node.value if name.value == key)
    return found


def _beside(line: str) -> str:
    return line.partition(" # ")[2].strip()


def _above(lines: list[str], number: int) -> str:
    """The nearest comment above a rule: one may stand above several."""
    for line in reversed(lines[:number]):
        if line.strip().startswith("#"):
            return line.strip().lstrip("# ")
    return ""


# ---- used ----


def entries(since: datetime, folder: Path = LOGS, user: str = USER) -> Iterator[Object]:
    """What the audit log says of this account's requests, those of rotated files too."""
    for path in sorted(folder.glob("audit*.log")):
        with path.open(errors="replace") as lines:
            for line in lines:
                if user not in line:
                    continue
                try:
                    entry: Object = json.loads(line)
                except ValueError:
                    continue  # the last line, half written
                if entry["user"]["username"] == user and datetime.fromisoformat(entry["requestReceivedTimestamp"]) >= since:
                    yield entry


def read(found: Iterable[Object]) -> tuple[Counter[Use], Counter[Use]]:
    """(allowed, refused) requests for resources, as authorization decided: admission and quotas answer with 403 too."""
    allowed: Counter[Use] = Counter()
    refused: Counter[Use] = Counter()
    for entry in found:
        about = entry.get("objectRef") or {}
        if not about.get("resource"):
            continue
        resource = "/".join(part for part in (about["resource"], about.get("subresource")) if part)
        use = Use(about.get("apiGroup", ""), resource, entry["verb"], about.get("namespace", ""), about.get("name", ""))
        decision = (entry.get("annotations") or {}).get("authorization.k8s.io/decision")
        (refused if decision == "forbid" else allowed)[use] += 1
    return allowed, refused


@dataclass(frozen=True)
class Result:
    """What came of the comparison."""

    uses: dict[Grant, int]
    refused: list[Use]
    #: Granted by the chart and refused all the same: while the chart was being installed or uninstalled.
    unbound: list[Use]

    @property
    def unused(self) -> list[Grant]:
        """Grants that nothing needed."""
        return [grant for grant, number in self.uses.items() if not number]


def compare(grants: list[Grant], allowed: Counter[Use], refused: Counter[Use]) -> Result:
    """Each grant with the number of requests that needed it."""
    uses = {grant: sum(number for use, number in allowed.items() if grant.covers(use)) for grant in grants}
    covered = {use: any(grant.covers(use) for grant in grants) for use in refused}
    return Result(uses, [use for use, is_so in covered.items() if not is_so], [use for use, is_so in covered.items() if is_so])


def check(since: datetime) -> int:
    """Prints what is wrong; 0 if nothing is, or if this cluster has no audit log."""
    if not (LOGS / "audit.log").exists():
        print("rights: this cluster has no audit log, so nothing is compared")
        return 0
    result = compare(granted(rendered()), *read(entries(since)))
    for grant in result.unused:
        print(f"rights: granted and never used: {grant}")
    for use in result.refused:
        print(f"rights: refused, no grant allows it: {use}")
    for use in result.unbound:
        print(f"rights: (refused while the chart was not installed as a whole: {use})")
    print(f"rights: {len(result.uses)} grants, {len(result.uses) - len(result.unused)} of them used")
    return 1 if result.unused or result.refused or not result.uses else 0


def main() -> int:
    """0 when every right is used and none is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", default="1970-01-01T00:00:00Z", help="an RFC 3339 moment; all that the log has without")
    return check(datetime.fromisoformat(parser.parse_args().since).astimezone(UTC))


if __name__ == "__main__":
    sys.exit(main())
