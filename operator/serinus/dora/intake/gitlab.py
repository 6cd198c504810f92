"""GitLab's webhooks. Pure.

https://docs.gitlab.com/user/project/integrations/webhook_events/; token and ids:
https://docs.gitlab.com/user/project/integrations/webhooks/#delivery-headers.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from serinus.dora.facts import ChangeSays, Fact, ReleaseSays, RunSays
from serinus.dora.intake.pushes import Pushed, commit_hash, released, told, touched
from serinus.dora.intake.received import (
    Headers,
    Payload,
    Perhaps,
    Refused,
    Secret,
    Telling,
    Text,
    When,
    at_most,
    configured,
    delivery,
    digest,
    header,
    mapping,
    parse,
    read,
    refusing,
    same,
)
from serinus.dora.intake.settings import Settings
from serinus.dora.repository import canonical

SOURCE = "gitlab"

Result = Literal["", "success", "failure", "cancelled", "skipped"]
_RESULTS: dict[str, Result] = {"success": "success", "failed": "failure", "canceled": "cancelled", "skipped": "skipped"}
#: Seconds; a job that has waited for longer was forgotten.
_LONGEST_WAIT = 30 * 86400
_COMMIT_URL = re.compile(r".*/commit/([0-9a-f]{40}|[0-9a-f]{64})")


def verify(headers: Headers, body: bytes, secret: Secret) -> None:
    """Raises Refused(401) unless ``X-Gitlab-Token`` is `secret`. GitLab sends the token itself: serve HTTPS."""
    configured(secret)
    given = header(headers, "X-Gitlab-Token")
    if not given:
        raise Refused(401, "the header X-Gitlab-Token is needed: set the webhook's secret token")
    if not same(given, secret):
        raise Refused(401, "X-Gitlab-Token is not the token that was configured")


def delivered(headers: Headers, body: bytes) -> str:
    """The id by which a repeat is known.

    ``Idempotency-Key`` stays the same over all tries. ``X-Gitlab-Event-UUID`` does so as well, but a webhook that sets off others
    shares it with them, so the body tells those apart.
    """
    event, own = delivery(headers, "X-Gitlab-Event-UUID"), digest(body)
    return delivery(headers, "Idempotency-Key") or (f"{event}/{own[:16]}" if event else own)


@refusing
def facts(headers: Headers, body: bytes, settings: Settings) -> list[Fact]:
    """What the delivery says; nothing for events that are not read here. Raises Refused."""
    data = mapping(parse(body))
    kind = data.get("object_kind")
    telling = Telling(SOURCE, delivered(headers, body))
    if kind == "push":
        _push(telling, read(Push, data), settings)
    elif isinstance(kind, str) and kind in _KINDS:
        model, say = _KINDS[kind]
        say(telling, read(model, data))
    return telling.facts


class User(Payload):
    """Who did it."""

    id: int | None = None
    username: Text = ""


class Project(Payload):
    """Where it happened."""

    web_url: str = Field(min_length=1)
    default_branch: Text = ""

    @property
    def canonical(self) -> str:
        """gitlab.com/shop/checkout."""
        return canonical(self.web_url)

    @property
    def name(self) -> str:
        """By which services are called after their repository: checkout."""
        return self.canonical.rsplit("/", 1)[-1]


# --- merge requests


class Label(Payload):
    """Of a merge request."""

    title: str


class LastCommit(Payload):
    """The newest of its own."""

    id: Text = ""


class MergeRequest(Payload):
    """object_attributes."""

    iid: int
    title: Text = ""
    url: Text = ""
    action: Text = ""
    state: Text = ""
    author_id: int | None = None
    source_branch: Text = ""
    target_branch: Text = ""
    created_at: When
    updated_at: When
    merged_at: Perhaps = None
    closed_at: Perhaps = None
    merge_commit_sha: Text = ""
    squash_commit_sha: Text = ""
    last_commit: LastCommit | None = None


class MergeRequestEvent(Payload):
    """Merge Request Hook."""

    user: User | None = None
    project: Project
    object_attributes: MergeRequest
    labels: Annotated[list[Label], at_most(1000)] = Field(default_factory=list)


def _merge_request(telling: Telling, event: MergeRequestEvent) -> None:
    change, repository, user = event.object_attributes, event.project.canonical, event.user or User()
    action, now = change.action, change.updated_at
    own = change.last_commit.id if change.last_commit else ""
    merges = action == "merge" or change.merged_at is not None
    reviewed = action in ("approved", "approval") and user.id != change.author_id
    says = ChangeSays(
        repository=repository,
        number=str(change.iid),
        title=change.title,
        url=change.url,
        # The author is named by a number only; whoever opens it is the author.
        author=user.username if user.id is not None and user.id == change.author_id else "",
        branch=change.source_branch,
        base=change.target_branch,
        labels=tuple(label.title for label in event.labels),
        opened=change.created_at,
        first_review=now if reviewed else None,
        merged=change.merged_at or (now if action == "merge" else None),
        closed=change.closed_at or (now if action in ("close", "merge") else None),
        reopened=now if action == "reopen" else None,
        # A fast-forward has no merge commit: its own newest is on the branch.
        merge_commit=(change.merge_commit_sha or change.squash_commit_sha or own) if merges else "",
        commits=(own,) if own else (),
    )
    telling.say(now, f"{repository}!{change.iid}", says)


# --- pushes


class PushedCommit(Payload):
    """Oldest first, at most the newest 20 of a push."""

    id: str
    timestamp: When
    added: list[str] = Field(default_factory=list)
    removed: list[str] = Field(default_factory=list)
    modified: list[str] = Field(default_factory=list)


class Push(Payload):
    """Push Hook."""

    ref: str
    before: str
    after: str
    commits: Annotated[list[PushedCommit], at_most(2048)] = Field(default_factory=list)
    project: Project


def _push(telling: Telling, event: Push, settings: Settings) -> None:
    """When it was pushed is not said: the newest commit's moment stands for it. Nor is it said that it was forced."""
    before, after = commit_hash(event.before, "before"), commit_hash(event.after, "after")
    if not after or not event.commits or not released(event.ref, event.project.default_branch, settings.branches):
        return
    commits = [
        Pushed(commit_hash(c.id, "commits.id"), c.timestamp, touched(c.added, c.removed, c.modified), new=False)
        for c in event.commits
    ]
    at = max(commit.timestamp for commit in event.commits)
    for key, says in told(event.project.canonical, before, after, commits):
        telling.say(at, key, says)


# --- deployments


class DeploymentEvent(Payload):
    """Deployment Hook."""

    status: str
    status_changed_at: When
    deployment_id: int
    environment: str
    project: Project
    short_sha: Text = ""
    commit_url: Text = ""
    user: User | None = None


def _deployment(telling: Telling, event: DeploymentEvent) -> None:
    """Its success is all users at once; of a failure nobody can tell here whether it reached any."""
    at, status, project = event.status_changed_at, event.status, event.project
    found = _COMMIT_URL.fullmatch(event.commit_url)
    commit = found[1] if found else event.short_sha
    succeeded, failed = status == "success", status in ("failed", "canceled")
    says = ReleaseSays(
        service=project.name,
        environment=event.environment,
        artifact=commit,
        commit=commit,
        repository=project.canonical,
        by=event.user.username if event.user else "",
        outcome="Promoted" if succeeded else "Aborted" if failed else None,
        why=f"the deployment's status is {status}" if failed else "",
        requested=at if status == "running" else None,
        exposed=at if succeeded else None,
        promoted=at if succeeded else None,
    )
    telling.say(at, f"{project.canonical}/deployments/{event.deployment_id}", says)


# --- pipelines


class Build(Payload):
    """A job of a pipeline. It was created with the pipeline, and queued when what it needs was there."""

    id: int
    name: Text = ""
    status: Text = ""
    created_at: Perhaps = None
    started_at: Perhaps = None
    finished_at: Perhaps = None
    queued_duration: float | None = None

    @property
    def queued_at(self) -> datetime | None:
        """When it began to wait for a runner; where that is not told, when it was created."""
        if self.started_at is None or self.queued_duration is None or not 0 <= self.queued_duration <= _LONGEST_WAIT:
            return self.created_at
        return self.started_at - timedelta(seconds=round(self.queued_duration))


class Pipeline(Payload):
    """object_attributes."""

    id: int
    name: Text = ""
    ref: Text = ""
    sha: Text = ""
    status: Text = ""
    url: Text = ""
    created_at: When
    finished_at: Perhaps = None


class PipelineEvent(Payload):
    """Pipeline Hook."""

    object_attributes: Pipeline
    project: Project
    builds: Annotated[list[Build], at_most(5000)] = Field(default_factory=list)


def _pipeline(telling: Telling, event: PipelineEvent) -> None:
    """It is told with its jobs when it is over; before that each event would repeat them all."""
    one, repository = event.object_attributes, event.project.canonical
    started = [build.started_at for build in event.builds if build.started_at is not None]
    moments = [moment for build in event.builds for moment in (build.started_at, build.finished_at) if moment is not None]
    key = f"{repository}/pipelines/{one.id}"
    says = RunSays(
        repository=repository,
        name=one.name or one.ref,
        commit=one.sha,
        branch=one.ref,
        url=one.url,
        result=_RESULTS.get(one.status, ""),
        queued=one.created_at,
        started=min(started, default=None),
        finished=one.finished_at if one.status in _RESULTS else None,
    )
    telling.say(one.finished_at or max(moments, default=one.created_at), key, says)
    for build in event.builds if one.status in _RESULTS else ():
        _job(telling, event.project, key, one, build)


class JobEvent(Payload):
    """Job Hook."""

    build_id: int
    build_name: Text = ""
    build_status: Text = ""
    build_created_at: Perhaps = None
    build_started_at: Perhaps = None
    build_finished_at: Perhaps = None
    build_queued_duration: float | None = None
    pipeline_id: int
    ref: Text = ""
    sha: Text = ""
    project: Project


def _job_event(telling: Telling, event: JobEvent) -> None:
    build = Build.model_construct(
        id=event.build_id,
        name=event.build_name,
        status=event.build_status,
        created_at=event.build_created_at,
        started_at=event.build_started_at,
        finished_at=event.build_finished_at,
        queued_duration=event.build_queued_duration,
    )
    if build.created_at is None and build.started_at is None and build.finished_at is None:
        raise Refused(422, "none of build_created_at, build_started_at and build_finished_at is there")
    key = f"{event.project.canonical}/pipelines/{event.pipeline_id}"
    _job(telling, event.project, key, event, build)


def _job(telling: Telling, project: Project, pipeline: str, of: Pipeline | JobEvent, build: Build) -> None:
    at = build.finished_at or build.started_at or build.created_at
    if at is None:
        return
    says = RunSays(
        repository=project.canonical,
        parent=pipeline,
        name=build.name,
        commit=of.sha,
        branch=of.ref,
        result=_RESULTS.get(build.status, ""),
        queued=build.queued_at,
        started=build.started_at,
        finished=build.finished_at if build.status in _RESULTS else None,
    )
    telling.say(at, f"{project.canonical}/jobs/{build.id}", says)


_KINDS: dict[str, tuple[Any, Any]] = {
    "merge_request": (MergeRequestEvent, _merge_request),
    "deployment": (DeploymentEvent, _deployment),
    "pipeline": (PipelineEvent, _pipeline),
    "build": (JobEvent, _job_event),
}
