"""GitHub's webhooks. Pure.

https://docs.github.com/en/webhooks/webhook-events-and-payloads; signatures:
https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

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
    content_type,
    digest,
    header,
    mapping,
    parse,
    read,
    refusing,
    same,
    signature,
)
from serinus.dora.intake.settings import Settings
from serinus.dora.repository import canonical

SOURCE = "github"

Result = Literal["", "success", "failure", "cancelled", "skipped"]
_RESULTS: dict[str, Result] = {
    "success": "success",
    "neutral": "success",  # a check that is neutral stops nobody
    "failure": "failure",
    "timed_out": "failure",
    "startup_failure": "failure",
    "cancelled": "cancelled",
    "stale": "cancelled",
    "skipped": "skipped",
}


def verify(headers: Headers, body: bytes, secret: Secret) -> None:
    """Raises Refused(401) unless ``X-Hub-Signature-256`` is the body's, by `secret`."""
    configured(secret)
    scheme, _, given = header(headers, "X-Hub-Signature-256").partition("=")
    if scheme != "sha256" or not given:
        raise Refused(401, "the header X-Hub-Signature-256: sha256=<hex> is needed: set the webhook's secret")
    if not same(given, signature(body, secret)):
        raise Refused(401, "X-Hub-Signature-256 is not this body's signature by the secret that was configured")


def delivered(headers: Headers, body: bytes) -> str:
    """The id by which a repeat is known: what is signed. ``X-GitHub-Delivery`` is not, so whoever replays may change it."""
    return digest(body)


@refusing
def facts(headers: Headers, body: bytes, settings: Settings) -> list[Fact]:
    """What the delivery says; nothing for events that are not read here. Raises Refused."""
    if content_type(headers) == "application/x-www-form-urlencoded":
        raise Refused(415, "set the webhook's content type to application/json")
    data = mapping(parse(body))
    event = header(headers, "X-GitHub-Event")
    if not event:
        raise Refused(422, "the header X-GitHub-Event is needed")
    telling = Telling(SOURCE, delivered(headers, body))
    if event == "push":
        _push(telling, read(Push, data), settings)
    elif event in _EVENTS:
        kind, say = _EVENTS[event]
        say(telling, read(kind, data))
    return telling.facts


def _stamp(value: Any) -> Any:
    """pushed_at of a push is seconds since the epoch, elsewhere it is a text."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**33:
        return datetime.fromtimestamp(value, UTC).isoformat()
    return value


class Account(Payload):
    """A user. Of one that was deleted there is null."""

    login: Text = ""
    type: Text = ""


class Repository(Payload):
    """Where it happened."""

    name: str = Field(min_length=1)
    html_url: str = Field(min_length=1)
    default_branch: Text = ""
    pushed_at: Annotated[Perhaps, BeforeValidator(_stamp)] = None

    @property
    def canonical(self) -> str:
        """github.com/shop/checkout."""
        return canonical(self.html_url)


# --- pull requests


class Label(Payload):
    """Of a pull request."""

    name: str


class Branch(Payload):
    """One side of a pull request."""

    ref: str
    sha: Text = ""


class PullRequest(Payload):
    """As it is after the event."""

    number: int
    title: Text = ""
    html_url: Text = ""
    user: Account | None = None
    created_at: When
    updated_at: When
    merged_at: Perhaps = None
    closed_at: Perhaps = None
    merge_commit_sha: Text = ""
    labels: Annotated[list[Label], at_most(1000)] = Field(default_factory=list)
    head: Branch
    base: Branch


class PullRequestEvent(Payload):
    """pull_request."""

    action: str
    pull_request: PullRequest
    repository: Repository


def _pull_request(telling: Telling, event: PullRequestEvent) -> None:
    change, repository = event.pull_request, event.repository.canonical
    merged = change.merged_at is not None
    says = ChangeSays(
        repository=repository,
        number=str(change.number),
        title=change.title,
        url=change.html_url,
        author=change.user.login if change.user else "",
        branch=change.head.ref,
        base=change.base.ref,
        labels=tuple(label.name for label in change.labels),
        opened=change.created_at,
        merged=change.merged_at,
        closed=change.closed_at,
        reopened=change.updated_at if event.action == "reopened" else None,
        # Of an open one it is a trial merge that no branch will ever have.
        merge_commit=change.merge_commit_sha if merged else "",
        commits=(change.head.sha,) if change.head.sha else (),
    )
    telling.say(change.updated_at, f"{repository}#{change.number}", says)


class Review(Payload):
    """By a person, or by a program."""

    user: Account | None = None
    submitted_at: Perhaps = None


class Reviewed(Payload):
    """The pull request of a review."""

    number: int
    user: Account | None = None


class ReviewEvent(Payload):
    """pull_request_review."""

    action: str
    review: Review
    pull_request: Reviewed
    repository: Repository


def _review(telling: Telling, event: ReviewEvent) -> None:
    """Whoever answers to comments on their own work, and a program, has not reviewed it."""
    by, author = event.review.user or Account(), event.pull_request.user or Account()
    at = event.review.submitted_at
    if event.action != "submitted" or at is None or by.type == "Bot" or (by.login and by.login == author.login):
        return
    repository, number = event.repository.canonical, event.pull_request.number
    telling.say(at, f"{repository}#{number}", ChangeSays(repository=repository, number=str(number), first_review=at))


# --- pushes


class PushedCommit(Payload):
    """Oldest first, at most 2048 of a push."""

    id: str
    timestamp: When
    distinct: bool = False
    added: list[str] = Field(default_factory=list)
    removed: list[str] = Field(default_factory=list)
    modified: list[str] = Field(default_factory=list)


class Push(Payload):
    """push."""

    ref: str
    before: str
    after: str
    forced: bool = False
    deleted: bool = False
    commits: Annotated[list[PushedCommit], at_most(2048)] = Field(default_factory=list)
    head_commit: PushedCommit | None = None
    repository: Repository


def _push(telling: Telling, event: Push, settings: Settings) -> None:
    before, after = commit_hash(event.before, "before"), commit_hash(event.after, "after")
    if not after or not released(event.ref, event.repository.default_branch, settings.branches):
        return
    commits = [_pushed(commit) for commit in event.commits]
    if event.head_commit is not None and event.head_commit.id.lower() not in {commit.hash for commit in commits}:
        commits.append(_pushed(event.head_commit))
    moments = [commit.committed for commit in commits if commit.committed is not None]
    at = event.repository.pushed_at or max(moments, default=None)
    if at is None:
        raise Refused(422, "repository.pushed_at: missing, and no commit tells when this was")
    # After a forced push the old head is no ancestor.
    for key, says in told(event.repository.canonical, "" if event.forced else before, after, commits):
        telling.say(at, key, says)


def _pushed(commit: PushedCommit) -> Pushed:
    paths = touched(commit.added, commit.removed, commit.modified)
    return Pushed(commit_hash(commit.id, "commits.id"), commit.timestamp, paths, commit.distinct)


# --- deployments


class Deployment(Payload):
    """Of one commit to one environment. `payload` is the deployer's own: a monorepo's can name its service there."""

    id: int
    sha: str
    environment: str
    created_at: When
    creator: Account | None = None
    payload: Any = None


class Status(Payload):
    """What became of it."""

    state: str
    created_at: When


class DeploymentEvent(Payload):
    """deployment, and deployment_status, which has the status."""

    action: str = ""
    deployment: Deployment
    deployment_status: Status | None = None
    repository: Repository


def _deployment(telling: Telling, event: DeploymentEvent) -> None:
    """Its success is all users at once; of a failure nobody can tell here whether it reached any."""
    one, status = event.deployment, event.deployment_status
    state, since = (status.state, status.created_at) if status else ("", one.created_at)
    if state == "inactive":  # a newer one took its place
        return
    succeeded, failed = state == "success", state in ("failure", "error")
    named = one.payload.get("service") if isinstance(one.payload, dict) else None
    says = ReleaseSays(
        service=named if isinstance(named, str) and named else event.repository.name,
        environment=one.environment,
        artifact=one.sha,
        commit=one.sha,
        repository=event.repository.canonical,
        by=one.creator.login if one.creator else "",
        outcome="Promoted" if succeeded else "Aborted" if failed else None,
        why=f"the deployment's status is {state}" if failed else "",
        requested=one.created_at,
        exposed=since if succeeded else None,
        promoted=since if succeeded else None,
    )
    telling.say(since, f"{event.repository.canonical}/deployments/{one.id}", says)


# --- workflows


class WorkflowRun(Payload):
    """One attempt of one run."""

    id: int
    run_attempt: int = 1
    name: Text = ""
    head_sha: Text = ""
    head_branch: Text = ""
    html_url: Text = ""
    status: Text = ""
    conclusion: Text = ""
    created_at: When
    run_started_at: Perhaps = None
    updated_at: When


class WorkflowRunEvent(Payload):
    """workflow_run."""

    workflow_run: WorkflowRun
    repository: Repository


def _workflow_run(telling: Telling, event: WorkflowRunEvent) -> None:
    run, repository = event.workflow_run, event.repository.canonical
    done = run.status == "completed"
    says = RunSays(
        repository=repository,
        name=run.name,
        commit=run.head_sha,
        branch=run.head_branch,
        url=run.html_url,
        result=_RESULTS.get(run.conclusion, "") if done else "",
        # A later attempt has the first one's.
        queued=run.created_at if run.run_attempt == 1 else run.run_started_at,
        started=run.run_started_at if done or run.status == "in_progress" else None,
        finished=run.updated_at if done else None,
    )
    telling.say(run.updated_at, _run(repository, run.id, run.run_attempt), says)


class WorkflowJob(Payload):
    """A job of an attempt."""

    id: int
    run_id: int
    run_attempt: int = 1
    name: Text = ""
    head_sha: Text = ""
    head_branch: Text = ""
    html_url: Text = ""
    status: Text = ""
    conclusion: Text = ""
    created_at: Perhaps = None
    started_at: Perhaps = None
    completed_at: Perhaps = None


class WorkflowJobEvent(Payload):
    """workflow_job."""

    workflow_job: WorkflowJob
    repository: Repository


def _workflow_job(telling: Telling, event: WorkflowJobEvent) -> None:
    """While a job waits, its started_at is when it began to wait."""
    job, repository = event.workflow_job, event.repository.canonical
    at = max((moment for moment in (job.created_at, job.started_at, job.completed_at) if moment is not None), default=None)
    if at is None:
        raise Refused(422, "workflow_job: none of created_at, started_at and completed_at is there")
    done = job.status == "completed"
    says = RunSays(
        repository=repository,
        parent=_run(repository, job.run_id, job.run_attempt),
        name=job.name,
        commit=job.head_sha,
        branch=job.head_branch,
        url=job.html_url,
        result=_RESULTS.get(job.conclusion, "") if done else "",
        queued=job.created_at,
        started=job.started_at if done or job.status == "in_progress" else None,
        finished=job.completed_at if done else None,
    )
    telling.say(at, f"{repository}/jobs/{job.id}", says)


def _run(repository: str, number: int, attempt: int) -> str:
    return f"{repository}/runs/{number}/{attempt}"


_EVENTS: dict[str, tuple[Any, Any]] = {
    "pull_request": (PullRequestEvent, _pull_request),
    "pull_request_review": (ReviewEvent, _review),
    "deployment": (DeploymentEvent, _deployment),
    "deployment_status": (DeploymentEvent, _deployment),
    "workflow_run": (WorkflowRunEvent, _workflow_run),
    "workflow_job": (WorkflowJobEvent, _workflow_job),
}
