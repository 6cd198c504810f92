"""Small requests of each source, written by hand, as tools would send them."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

SECRET = "s3cret"
REPOSITORY = {
    "name": "checkout",
    "full_name": "Shop/Checkout",
    "html_url": "https://github.com/Shop/Checkout",
    "default_branch": "main",
    "pushed_at": "2026-11-27T09:00:00Z",
}
PROJECT = {"id": 7, "web_url": "https://gitlab.example:8443/shop/checkout", "default_branch": "main"}


def sha(digit: str) -> str:
    return digit * 40


def hmac_of(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def pull_request(action: str = "opened", **fields: Any) -> dict[str, Any]:
    return {
        "action": action,
        "repository": REPOSITORY,
        "pull_request": {
            "number": 12,
            "title": "Prices with two digits",
            "html_url": "https://github.com/Shop/Checkout/pull/12",
            "user": {"login": "mona", "type": "User"},
            "created_at": "2026-11-27T08:00:00Z",
            "updated_at": "2026-11-27T08:30:00Z",
            "merged_at": None,
            "closed_at": None,
            "merge_commit_sha": sha("e"),
            "labels": [{"name": "bug"}],
            "head": {"ref": "prices", "sha": sha("a")},
            "base": {"ref": "main", "sha": sha("0")},
            **fields,
        },
    }


def review(**fields: Any) -> dict[str, Any]:
    return {
        "action": "submitted",
        "repository": REPOSITORY,
        "review": {"user": {"login": "hubot", "type": "User"}, "submitted_at": "2026-11-27T08:20:00Z", "state": "approved"}
        | fields,
        "pull_request": {"number": 12, "user": {"login": "mona", "type": "User"}},
    }


def commit(digit: str, distinct: bool = True, **paths: list[str]) -> dict[str, Any]:
    return {"id": sha(digit), "timestamp": "2026-11-27T10:00:00+02:00", "distinct": distinct, "added": [], "removed": []} | paths


def push(*commits: dict[str, Any], before: str = sha("1"), **fields: Any) -> dict[str, Any]:
    after = commits[-1]["id"] if commits else sha("9")
    known = {"ref": "refs/heads/main", "before": before, "after": after, "forced": False, "commits": list(commits)}
    return known | {"head_commit": commits[-1] if commits else None, "repository": REPOSITORY} | fields


def deployment_status(state: str = "success", **fields: Any) -> dict[str, Any]:
    deployment = {"id": 5, "sha": sha("e"), "environment": "production", "created_at": "2026-11-27T09:00:00Z"}
    return {
        "action": "created",
        "deployment": deployment | {"creator": {"login": "mona"}, "payload": {}} | fields,
        "deployment_status": {"state": state, "created_at": "2026-11-27T09:05:00Z"},
        "repository": REPOSITORY,
    }


def workflow_run(**fields: Any) -> dict[str, Any]:
    run = {
        "id": 77,
        "run_attempt": 1,
        "name": "build",
        "head_sha": sha("a"),
        "head_branch": "prices",
        "html_url": "https://github.com/Shop/Checkout/actions/runs/77",
        "status": "completed",
        "conclusion": "success",
        "created_at": "2026-11-27T08:00:00Z",
        "run_started_at": "2026-11-27T08:00:05Z",
        "updated_at": "2026-11-27T08:04:00Z",
    }
    return {"action": "completed", "workflow_run": run | fields, "repository": REPOSITORY}


def workflow_job(**fields: Any) -> dict[str, Any]:
    job = {
        "id": 770,
        "run_id": 77,
        "run_attempt": 1,
        "name": "unit tests",
        "head_sha": sha("a"),
        "head_branch": "prices",
        "status": "completed",
        "conclusion": "failure",
        "created_at": "2026-11-27T08:00:00Z",
        "started_at": "2026-11-27T08:01:00Z",
        "completed_at": "2026-11-27T08:03:00Z",
    }
    return {"action": "completed", "workflow_job": job | fields, "repository": REPOSITORY}


def merge_request(action: str = "open", **fields: Any) -> dict[str, Any]:
    attributes = {
        "iid": 3,
        "title": "Prices with two digits",
        "url": "https://gitlab.example:8443/shop/checkout/-/merge_requests/3",
        "action": action,
        "author_id": 1,
        "source_branch": "prices",
        "target_branch": "main",
        "created_at": "2026-11-27 08:00:00 UTC",
        "updated_at": "2026-11-27 08:30:00 UTC",
        "last_commit": {"id": sha("a")},
    }
    return {
        "object_kind": "merge_request",
        "user": {"id": 1, "username": "root"},
        "project": PROJECT,
        "object_attributes": attributes | fields,
        "labels": [{"title": "bug"}],
    }


def gitlab_push(*commits: dict[str, Any], **fields: Any) -> dict[str, Any]:
    known = {"object_kind": "push", "ref": "refs/heads/main", "before": sha("1"), "after": commits[-1]["id"]}
    return known | {"commits": list(commits), "project": PROJECT} | fields


def gitlab_deployment(status: str = "success", **fields: Any) -> dict[str, Any]:
    return {
        "object_kind": "deployment",
        "status": status,
        "status_changed_at": "2026-11-27 10:05:00 +0100",
        "deployment_id": 15,
        "environment": "production",
        "project": PROJECT,
        "short_sha": "eeeeeeee",
        "commit_url": f"https://gitlab.example:8443/shop/checkout/-/commit/{sha('e')}",
        "user": {"id": 1, "username": "root"},
    } | fields


def pipeline(status: str = "success", **fields: Any) -> dict[str, Any]:
    attributes = {
        "id": 31,
        "ref": "prices",
        "sha": sha("a"),
        "status": status,
        "url": "https://gitlab.example:8443/shop/checkout/-/pipelines/31",
        "created_at": "2026-11-27 08:00:00 UTC",
        "finished_at": "2026-11-27 08:04:00 UTC",
    }
    build = {
        "id": 380,
        "name": "unit tests",
        "status": "failed",
        "created_at": "2026-11-27 08:00:00 UTC",
        "started_at": "2026-11-27 08:01:00 UTC",
        "finished_at": "2026-11-27 08:03:00 UTC",
    }
    later = {"id": 381, "name": "deploy", "status": "manual", "created_at": None, "started_at": None, "finished_at": None}
    return {"object_kind": "pipeline", "object_attributes": attributes | fields, "project": PROJECT, "builds": [build, later]}


def job(**fields: Any) -> dict[str, Any]:
    return {
        "object_kind": "build",
        "build_id": 380,
        "build_name": "unit tests",
        "build_status": "failed",
        "build_created_at": "2026-11-27T08:00:00.000Z",
        "build_started_at": "2026-11-27 08:01:00 UTC",
        "build_finished_at": "2026-11-27 08:03:00 UTC",
        "pipeline_id": 31,
        "ref": "prices",
        "sha": sha("a"),
        "project": PROJECT,
    } | fields


def alerts(status: str = "firing", ends: str = "0001-01-01T00:00:00Z", **labels: str) -> dict[str, Any]:
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 3,
        "status": status,
        "alerts": [
            {
                "status": status,
                "labels": {"alertname": "Errors", "severity": "page", "namespace": "shop", "service": "checkout"} | labels,
                "annotations": {"summary": "5 % of requests fail"},
                "startsAt": "2026-11-27T09:10:00.123456789Z",
                "endsAt": ends,
                "generatorURL": "http://prometheus/graph",
                "fingerprint": "9a3f",
            }
        ],
    }


def incident(event_type: str = "incident.triggered", at: str = "2026-11-27T09:10:00Z", **data: Any) -> dict[str, Any]:
    known = {
        "id": "PT4KHLK",
        "type": "incident",
        "title": "Checkout is down",
        "html_url": "https://shop.pagerduty.com/incidents/PT4KHLK",
        "urgency": "high",
        "created_at": "2026-11-27T09:09:00Z",
        "service": {"id": "PIJ90N7", "summary": "checkout"},
        "priority": {"summary": "P1"},
    }
    return {"event": {"id": f"01-{event_type}-{at}", "event_type": event_type, "occurred_at": at, "data": known | data}}


def cdevent(kind: str, content: dict[str, Any], at: str = "2026-11-27T09:00:00Z", **context: Any) -> dict[str, Any]:
    known = {"specversion": "0.5.1", "id": f"{kind}-1", "source": "/ci", "type": f"dev.cdevents.{kind}.0.3.0", "timestamp": at}
    return {"context": known | context, "subject": {"id": "checkout", "content": content}}


def structured(data: Any, kind: str = "dev.cdevents.service.deployed.0.3.0") -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/ci", "type": kind, "datacontenttype": "application/json", "data": data}


STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
ENVIRONMENT = {"environment": {"id": "production"}, "artifactId": "pkg:oci/checkout@sha256%3A0b"}


def release(**fields: Any) -> dict[str, Any]:
    return {"release": {"service": "checkout", "environment": "production", "promoted": "2026-11-27T09:00:00Z"} | fields}


#: (source, headers, body) of good requests, one of each kind: what the fuzzer starts from.
GOOD: list[tuple[str, dict[str, str], Any]] = [
    *(
        ("github", {"X-GitHub-Event": event, "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}, body)
        for event, body in [
            ("pull_request", pull_request()),
            ("pull_request_review", review()),
            ("push", push(commit("a"), commit("b", False, modified=["src/a.py"]), commit("c"))),
            ("deployment_status", deployment_status()),
            ("workflow_run", workflow_run()),
            ("workflow_job", workflow_job()),
        ]
    ),
    *(
        ("gitlab", {"Idempotency-Key": "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"}, body)
        for body in (merge_request("merge"), gitlab_push(commit("a"), commit("b")), gitlab_deployment(), pipeline(), job())
    ),
    ("alertmanager", {}, alerts("resolved", "2026-11-27T09:14:00Z")),
    ("pagerduty", {}, incident()),
    ("cdevents", STRUCTURED, structured(cdevent("service.deployed", ENVIRONMENT, chainId="c"))),
    ("cdevents", BATCH, [structured(cdevent("incident.detected", ENVIRONMENT))]),
    ("cdevents", {}, cdevent("pipelinerun.finished", {"pipelineName": "build", "outcome": "success"})),
    ("generic", {}, release(commit=sha("e"))),
    ("generic", {}, {"facts": [release(), {"incident": {"key": "1", "began": "2026-11-27T09:10:00Z"}}]}),
]


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()
