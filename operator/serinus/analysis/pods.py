"""What the canary's pods say about themselves: crash loops, images that cannot be pulled, memory, configuration.

Pod states are events, so a version that cannot run is known in well under a second, without any metric. Container states and
reasons: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and kubelet's ``pkg/kubelet/container`` and
``pkg/kubelet/images``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Reason = Literal["OutOfMemory", "CrashLoop", "InitFailed", "BadConfig", "ImagePull"]
Object = Mapping[str, Any]

#: Seconds that a pod may have trouble with a registry, a Secret or a volume that is only just being made.
PATIENCE = 15.0

_AT_ONCE: dict[str, Reason] = {"InvalidImageName": "ImagePull", "ErrImageNeverPull": "ImagePull"}
_AFTER_PATIENCE: dict[str, Reason] = {
    "ErrImagePull": "ImagePull",
    "ImagePullBackOff": "ImagePull",
    "ImageInspectError": "ImagePull",
    "RegistryUnavailable": "ImagePull",
    "SignatureValidationFailed": "ImagePull",
    "CreateContainerConfigError": "BadConfig",
    "CreateContainerError": "BadConfig",
    "RunContainerError": "BadConfig",
    "PreCreateHookError": "BadConfig",
    "PreStartHookError": "BadConfig",
    "PostStartHookError": "BadConfig",
}
#: Why a node or the scheduler ended a pod: says nothing about the version.
_NODE_DID_IT = {
    "Evicted",
    "NodeAffinity",
    "NodeLost",
    "NodeShutdown",
    "OutOfcpu",
    "OutOfmemory",
    "OutOfpods",
    "Preempting",
    "Shutdown",
    "Terminated",
    "UnexpectedAdmissionError",
}
_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class PodFault:
    """Why a version cannot run. `fault_began` is when its last crash ended, in seconds since the epoch, if known."""

    reason: Reason
    sentence: str
    pod: str
    container: str
    fault_began: float | None = None


def judge_pods(pods: Sequence[Object], now: float) -> tuple[PodFault | None, float | None]:
    """Judges the new version's pods (objects as the API returns them) at `now` (seconds since the epoch).

    Returns the fault, if there is one, and otherwise when to ask again although no pod changes (seconds since the epoch),
    because trouble that may pass has only just begun.

    A container crashes when it ends with an error, and a server's own container also when it ends with 0. The second crash is
    a crash loop, whether the kubelet calls it that already or not. Running out of memory once is enough. Pods that are being
    deleted or that a node has ended are left out.
    """
    retry_at: float | None = None
    for pod in sorted(pods, key=lambda p: str(_at(p, "metadata").get("name", ""))):
        if _ignored(pod):
            continue
        ripe_at = (_seconds(_at(pod, "metadata").get("creationTimestamp")) or 0.0) + PATIENCE
        for container in _containers(pod):
            fault, may_pass = _judge(container)
            if fault is not None and may_pass and now < ripe_at:
                retry_at = ripe_at if retry_at is None else min(retry_at, ripe_at)
            elif fault is not None:
                return fault, None
    return None, retry_at


@dataclass(frozen=True, slots=True)
class _Container:
    """One container's status, with what its meaning depends on."""

    pod: str
    status: Object
    init: bool
    sidecar: bool

    @property
    def restarts(self) -> int:
        return int(self.status.get("restartCount") or 0)

    def state(self, which: Literal["state", "lastState"], kind: Literal["waiting", "terminated"]) -> Object:
        return _at(_at(self.status, which), kind)

    def crashed(self, terminated: Object) -> bool:
        """Whether an end is a crash. Init containers and sidecars are meant to end, with 0."""
        return bool(terminated) and not (self.init and terminated.get("exitCode") == 0)

    def fault(self, reason: Reason, what: str, message: object, began: object = None) -> PodFault:
        name = str(self.status.get("name", ""))
        role = "sidecar" if self.sidecar else "init container" if self.init else "container"
        said = " ".join(str(message or "").split())
        said = f": {said if len(said) <= _MESSAGE else said[: _MESSAGE - 3] + '...'}" if said else ""
        image = str(self.status.get("image", ""))
        sentence = f"{role} {name} of pod {self.pod} {what} (image {image}){said}"
        return PodFault(reason, sentence, self.pod, name, _seconds(began))


def _judge(container: _Container) -> tuple[PodFault | None, bool]:
    """The fault of one container, and whether it may pass by itself."""
    waiting = container.state("state", "waiting")
    ended = container.state("state", "terminated")
    last = container.state("lastState", "terminated")

    for end in (ended, last):
        if end.get("reason") == "OOMKilled":
            what = f"ran out of memory, exit code {end.get('exitCode')}, {_times(container.restarts, 'restart')}"
            return container.fault("OutOfMemory", what, end.get("message"), end.get("finishedAt")), False

    crash = _crash(container, waiting, ended, last)
    if crash is not None:
        reason: Reason = "InitFailed" if container.init and not container.sidecar else "CrashLoop"
        what = f"crashed again, exit code {crash.get('exitCode', 'unknown')}, {_times(container.restarts, 'restart')}"
        said = crash.get("message") or waiting.get("message")
        return container.fault(reason, what, said, crash.get("finishedAt")), False

    why = str(waiting.get("reason", ""))
    if why in _AT_ONCE:
        return container.fault(_AT_ONCE[why], f"cannot start, {why}", waiting.get("message")), False
    if why in _AFTER_PATIENCE:
        return container.fault(_AFTER_PATIENCE[why], f"cannot start, {why}", waiting.get("message")), True
    return None, False


def _crash(container: _Container, waiting: Object, ended: Object, last: Object) -> Object | None:
    """How the last crash of a crash loop ended, or None.

    The kubelet restarts at once after the first crash, so `restartCount` 1 and not running is the second. It is 2 and running
    again when the states in between were missed.
    """
    if container.restarts >= 1 and container.crashed(ended):
        return ended
    if container.restarts >= 1 and waiting.get("reason") == "CrashLoopBackOff" and (container.crashed(last) or not last):
        return last
    if container.restarts >= 2 and container.crashed(last):
        return last
    return None


def _ignored(pod: Object) -> bool:
    status = _at(pod, "status")
    return bool(_at(pod, "metadata").get("deletionTimestamp")) or (
        status.get("phase") == "Failed" and status.get("reason") in _NODE_DID_IT
    )


def _containers(pod: Object) -> Iterator[_Container]:
    name = str(_at(pod, "metadata").get("name", ""))
    status, spec = _at(pod, "status"), _at(pod, "spec")
    sidecars = {c.get("name") for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"}
    for container in status.get("initContainerStatuses") or []:
        yield _Container(name, container, init=True, sidecar=container.get("name") in sidecars)
    for container in status.get("containerStatuses") or []:
        yield _Container(name, container, init=False, sidecar=False)


def _at(mapping: Object, key: str) -> Object:
    value = mapping.get(key)
    return value if isinstance(value, Mapping) else {}


def _times(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _seconds(text: object) -> float | None:
    if isinstance(text, datetime):
        return text.timestamp()
    try:
        return datetime.fromisoformat(str(text)).timestamp() if text else None
    except ValueError:
        return None
