"""How the tools of a team tell what happened: one file a source, each from a received request to facts. Pure.

A service mounts `READERS`, each under its name. It verifies at once, keeps body and headers, answers, and reads afterwards:
reading needs no secret, and gives the same facts each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serinus.dora.facts import Fact
from serinus.dora.intake import alertmanager, cdevents, coverage, generic, github, gitlab, junit, pagerduty, uploads
from serinus.dora.intake.received import LARGEST, Headers, Refused, Secret, bounded
from serinus.dora.intake.settings import Settings

__all__ = ["LARGEST", "READERS", "Reader", "Refused", "Settings"]


@dataclass(frozen=True, slots=True)
class Reader:
    """One source. Its functions raise Refused, and nothing else, whatever was received.

    `delivered`: the id by which a repeat of the whole request is known. `headers`: those that have to be kept with the body.
    `uploads`: a file of at most `largest` bytes, with what `serinus.dora.intake.uploads` says beside it.
    """

    name: str
    headers: tuple[str, ...]
    verify: Callable[[Headers, bytes, Secret], None]
    delivered: Callable[[Headers, bytes], str]
    facts: Callable[[Headers, bytes, Settings], list[Fact]]
    uploads: bool = False

    @property
    def largest(self) -> int:
        """Bytes of a body that is read."""
        return uploads.LARGEST if self.uploads else LARGEST

    def receive(self, headers: Headers, body: bytes, secret: Secret, settings: Settings | None = None) -> list[Fact]:
        """All in one: bounded, verified, read. Raises Refused."""
        bounded(body, self.largest)
        self.verify(headers, body, secret)
        return self.facts(headers, body, settings or Settings())


READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        Reader("cdevents", ("Content-Type", "ce-specversion", "ce-type"), cdevents.verify, cdevents.delivered, cdevents.facts),
        Reader("github", ("Content-Type", "X-GitHub-Event", "X-GitHub-Delivery"), github.verify, github.delivered, github.facts),
        Reader(
            "gitlab", ("X-Gitlab-Event", "Idempotency-Key", "X-Gitlab-Event-UUID"), gitlab.verify, gitlab.delivered, gitlab.facts
        ),
        Reader("alertmanager", (), alertmanager.verify, alertmanager.delivered, alertmanager.facts),
        Reader("pagerduty", ("X-Webhook-Id",), pagerduty.verify, pagerduty.delivered, pagerduty.facts),
        Reader("generic", (), generic.verify, generic.delivered, generic.facts),
        Reader("junit", uploads.HEADERS, junit.verify, junit.delivered, junit.facts, uploads=True),
        Reader("coverage", uploads.HEADERS, coverage.verify, coverage.delivered, coverage.facts, uploads=True),
    )
}
