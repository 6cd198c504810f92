"""Kubernetes events, as ``kubectl describe`` shows them. Pure.

core/v1 Event: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from serinus.api.base import GROUP, short_name

CONTROLLER = f"{GROUP}/controller"
#: Bytes: the API server counts those, although its message speaks of characters.
_MESSAGE = 1024
_NAME = 253


def event(
    obj_ref: Mapping[str, str],
    reason: str,
    message: str,
    type: Literal["Normal", "Warning"],  # noqa: A002  # named as the field is
    release: str,
    now: datetime,
    reporting_instance: str,
    key: str = "",
) -> dict[str, Any]:
    """An Event about `obj_ref` (apiVersion, kind, namespace, name, uid).

    Its name follows from the object, `release` (the Release's uid, or "" for none), `reason` and `key`, so that telling
    the same thing again after a crash answers AlreadyExists. `key` tells apart what happens several times in one release, such
    as the steps; without it the message does. `now` becomes its time; `reporting_instance` is the controller's pod.
    """
    what = "\0".join((obj_ref.get("uid", ""), release, reason, key or message))
    digest = hashlib.sha256(what.encode()).hexdigest()[:16]
    moment = now.astimezone(UTC)
    second = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{short_name(obj_ref['name'], _NAME - 17)}.{digest}",
            "namespace": obj_ref.get("namespace") or "default",
        },
        "involvedObject": {k: v for k, v in obj_ref.items() if v},
        "type": type,
        "reason": reason,
        "action": reason,
        "message": cut(message),
        "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "firstTimestamp": second,
        "lastTimestamp": second,
        "count": 1,
        "source": {"component": "serinus"},
        "reportingComponent": CONTROLLER,
        "reportingInstance": (reporting_instance or "serinus")[:128],
    }


def cut(message: str, limit: int = _MESSAGE) -> str:
    """`message` in at most `limit` bytes of UTF-8, with an ellipsis where something is missing."""
    encoded = message.encode()
    if len(encoded) <= limit:
        return message
    return encoded[: limit - 3].decode(errors="ignore") + "…"
