"""Whether the operator is well: its container, its /healthz, and what it logs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from e2e import install, kubectl
from e2e.fuzz import api
from e2e.kubectl import Object


class Operator:
    """As it was when this began, and since."""

    def __init__(self) -> None:
        self._since = datetime.now(UTC)
        self._before = self._restarts()
        self._seen: set[str] = set()
        #: What passes were refused with -> how often: worth a look, not wrong as such.
        self.refused: Counter[str] = Counter()
        #: namespace/Canary -> (seconds since the epoch, what its last refused pass was refused with).
        self._failing: dict[str, tuple[float, str]] = {}

    def _restarts(self) -> dict[str, int]:
        return {
            pod["metadata"]["name"]: sum(c["restartCount"] for c in pod.get("status", {}).get("containerStatuses") or [])
            for pod in api.items("pod", install.NAMESPACE)
        }

    def problems(self) -> Iterator[str]:
        """What is wrong with it now, or was since the last call; each only once."""
        now = self._restarts()
        if now != self._before:
            yield f"the operator's container was restarted: {self._before} became {now}"
            self._before = now
        for pod in now:
            path = f"{api.PATHS['pod'].format(install.NAMESPACE)}/{pod}:8080/proxy/healthz"
            answer = api.ask("GET", path)
            if "ok" not in str(answer.body.get("message", "")):
                yield f"/healthz of {pod} says {answer.code} {answer.body}"
        for line in self.log():
            text = json.dumps(line, sort_keys=True)
            if text in self._seen:
                continue
            self._seen.add(text)
            if "exception" in line or "Traceback" in str(line.get("message")) or line.get("level") in ("error", "critical"):
                yield f"the operator's log: {line.get('message')}\n{str(line.get('exception', ''))[-1500:]}"
            elif line.get("level") == "warning" and "trying again" in str(line.get("message")):
                key, _, rest = str(line["message"]).partition(": ")
                message = rest.partition("; trying again")[0]
                self.refused[message.replace(key.partition("/")[0], "…")] += 1
                self._failing[key] = datetime.fromisoformat(line["time"]).timestamp(), message

    def failing(self, space: str, since: float) -> list[str]:
        """What passes over Canaries in this namespace were refused with after this moment."""
        return [f"{key}: {what}" for key, (at, what) in self._failing.items() if key.startswith(f"{space}/") and at > since]

    def log(self) -> list[Object]:
        """Its lines since the last call; one that is no JSON is its own message, and as bad as an error."""
        began, self._since = self._since, datetime.now(UTC) - timedelta(seconds=2)  # twice rather than not at all
        words = (f"--since-time={began.isoformat()}", "-n", install.NAMESPACE)
        found = []
        for line in kubectl.run("logs", f"deployment/{install.RELEASE}", *words, check=False).splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"level": "error", "message": line}
            found.append(entry if isinstance(entry, dict) else {"level": "error", "message": line})
        return found
