"""The comparison of rights that are used with those that are granted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2e import rbac
from e2e.rbac import Grant, Use

USER = "system:serviceaccount:delivery:serinus"
ROLES = """
# Every right.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: serinus}
rules:
  # Pods: what they say.
  - apiGroups: [""]
    resources: [pods, pods/log]
    verbs:
      - list # crash loops
      - watch
  - apiGroups: [apps]
    resources: [deployments]
    verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: serinus}
roleRef: {kind: ClusterRole, name: serinus}
subjects: [{kind: ServiceAccount, name: serinus, namespace: delivery}]
---
kind: Role
metadata: {name: serinus, namespace: delivery}
rules:
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    resourceNames: [serinus]
    verbs: [update] # keep it
---
kind: RoleBinding
metadata: {name: serinus}
roleRef: {kind: Role, name: serinus}
subjects: [{kind: ServiceAccount, name: serinus, namespace: delivery}]
---
kind: ClusterRole
metadata: {name: people}
rules:
  - apiGroups: [serinus.dev]
    resources: [canaries]
    verbs: [create]
"""
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def entry(
    verb: str, resource: str, group: str = "", at: datetime = NOON, decision: str = "allow", **about: str
) -> dict[str, Any]:
    return {
        "user": {"username": USER},
        "verb": verb,
        "objectRef": {"resource": resource, "apiGroup": group, **about},
        "requestReceivedTimestamp": at.isoformat(),
        "responseStatus": {"code": 200},
        "annotations": {"authorization.k8s.io/decision": decision},
    }


def test_grants_are_those_of_roles_that_are_bound_to_the_account_each_with_its_reason():
    assert rbac.granted(ROLES, USER) == [
        Grant("", "pods", "list", reason="crash loops"),
        Grant("", "pods", "watch", reason="Pods: what they say."),
        Grant("", "pods/log", "list", reason="crash loops"),
        Grant("", "pods/log", "watch", reason="Pods: what they say."),
        Grant("apps", "deployments", "get", reason="Pods: what they say."),
        Grant("coordination.k8s.io", "leases", "update", "delivery", ("serinus",), "keep it"),
    ]
    assert rbac.granted(ROLES, "system:serviceaccount:delivery:other") == []


def test_a_grant_covers_its_own_names_and_namespace_alone():
    grant = Grant("coordination.k8s.io", "leases", "update", "delivery", ("serinus",))
    assert grant.covers(Use("coordination.k8s.io", "leases", "update", "delivery", "serinus"))
    assert not grant.covers(Use("coordination.k8s.io", "leases", "update", "delivery", "another"))
    assert not grant.covers(Use("coordination.k8s.io", "leases", "update", "shop", "serinus"))
    assert Grant("", "pods", "list").covers(Use("", "pods", "list", "shop"))
    assert not Grant("", "pods", "list").covers(Use("", "pods/log", "list", "shop"))


def test_unused_grants_and_refused_requests_are_told_apart():
    found = [
        entry("list", "pods", namespace="shop"),
        entry("list", "pods", namespace="shop", subresource="log"),
        entry("get", "deployments", "apps", namespace="shop", name="checkout"),
        entry("get", "secrets", decision="forbid", namespace="shop"),
        entry("watch", "pods", decision="forbid"),
        {**entry("get", ""), "objectRef": None},
    ]
    result = rbac.compare(rbac.granted(ROLES, USER), *rbac.read(found))
    assert {(grant.resource, grant.verb) for grant in result.unused} == {
        ("pods", "watch"),
        ("pods/log", "watch"),
        ("leases", "update"),
    }
    assert result.refused == [Use("", "secrets", "get", "shop")]
    assert result.unbound == [Use("", "pods", "watch")]


def test_the_log_is_read_from_a_moment_on_in_rotated_files_too(tmp_path: Path):
    before, other = datetime(2026, 1, 1, 11, tzinfo=UTC), entry("list", "pods")
    other["user"]["username"] = f"{USER}-2"
    (tmp_path / "audit-2026-01-01T12.log").write_text(f"{json.dumps(entry('get', 'services'))}\n")
    (tmp_path / "audit.log").write_text(
        "\n".join([json.dumps(entry("list", "pods", at=before)), json.dumps(other), json.dumps(entry("list", "nodes")), '{"user'])
    )
    assert [found["objectRef"]["resource"] for found in rbac.entries(NOON, tmp_path, USER)] == ["services", "nodes"]
