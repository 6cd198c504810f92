"""GitHub's and GitLab's webhooks as facts."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections import Counter
from typing import Any

import pytest
from e2e.cluster import examples
from tests.bodies import (
    PROJECT,
    REPOSITORY,
    commit,
    deployment_status,
    encoded,
    gitlab_deployment,
    gitlab_push,
    job,
    merge_request,
    pipeline,
    pull_request,
    push,
    review,
    sha,
    workflow_job,
    workflow_run,
)

from serinus.dora.facts import ChangeSays, CommitSays, Fact, ReleaseSays, RunSays, known
from serinus.dora.intake import READERS, Refused, Settings

CHANGE = "github.com/shop/checkout#12"
MERGE_REQUEST = "gitlab.example:8443/shop/checkout!3"


def github(event: str, body: Any, delivery: str = "", settings: Settings | None = None) -> list[Fact]:
    headers = {"X-GitHub-Event": event, "Content-Type": "application/json"} | (
        {"X-GitHub-Delivery": delivery} if delivery else {}
    )
    return READERS["github"].facts(headers, encoded(body), settings or Settings())


def gitlab(body: Any, settings: Settings | None = None) -> list[Fact]:
    return READERS["gitlab"].facts({}, encoded(body), settings or Settings())


def at(clock: str) -> Any:
    return ChangeSays.model_validate({"opened": f"2026-11-27T{clock}Z"}).opened


# --- GitHub: pull requests


def test_a_pull_request_that_was_opened():
    (fact,) = github("pull_request", pull_request())
    assert (fact.source, fact.key, fact.at) == ("github", CHANGE, at("08:30:00"))
    assert fact.says == ChangeSays(
        repository="github.com/shop/checkout",
        number="12",
        title="Prices with two digits",
        url="https://github.com/Shop/Checkout/pull/12",
        author="mona",
        branch="prices",
        base="main",
        labels=("bug",),
        opened=at("08:00:00"),
        commits=(sha("a"),),
    )


def test_the_commit_of_a_trial_merge_is_not_taken_for_the_merge():
    (fact,) = github("pull_request", pull_request("synchronize"))
    assert isinstance(fact.says, ChangeSays)
    assert fact.says.merge_commit == ""


def test_a_pull_request_that_was_merged_and_one_that_was_not():
    times = {"merged_at": "2026-11-27T08:50:00Z", "closed_at": "2026-11-27T08:50:01Z", "updated_at": "2026-11-27T08:50:01Z"}
    says = github("pull_request", pull_request("closed", **times))[0].says
    assert isinstance(says, ChangeSays)
    assert (says.merged, says.closed, says.merge_commit) == (at("08:50:00"), at("08:50:01"), sha("e"))
    says = github("pull_request", pull_request("closed", **times | {"merged_at": None}))[0].says
    assert isinstance(says, ChangeSays)
    assert (says.merged, says.closed, says.merge_commit) == (None, at("08:50:01"), "")


def test_one_that_is_open_again_says_so():
    says = github("pull_request", pull_request("reopened"))[0].says
    assert isinstance(says, ChangeSays)
    assert says.reopened == at("08:30:00")


def test_a_pull_request_of_somebody_whose_account_is_gone():
    says = github("pull_request", pull_request(user=None))[0].says
    assert isinstance(says, ChangeSays)
    assert says.author == ""


def test_the_first_review_counts_in_any_order():
    reviews = [github("pull_request_review", review(submitted_at=f"2026-11-27T08:{minute}:00Z")) for minute in (40, 20, 30)]
    facts = [fact for several in reviews for fact in several]
    assert len(facts) == 3
    for order in (facts, facts[::-1], [facts[1], facts[0], facts[2]]):
        assert known(order, ChangeSays)[CHANGE].says.first_review == at("08:20:00")


@pytest.mark.parametrize(
    "body",
    [
        review(user={"login": "mona", "type": "User"}),
        review(user={"login": "copilot[bot]", "type": "Bot"}),
        review(submitted_at=None),
        review() | {"action": "dismissed"},
        review() | {"action": "edited"},
    ],
)
def test_what_is_no_review_by_another_person_says_nothing(body):
    assert github("pull_request_review", body) == []


def test_a_replay_under_another_delivery_id_is_a_repeat():
    """Only the body is signed."""
    assert github("pull_request", pull_request(), "d-1") == github("pull_request", pull_request(), "d-2")


# --- GitHub: pushes


def ancestors(facts: list[Fact], start: str) -> set[str]:
    commits, found, left = known(facts, CommitSays), set(), [start]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left.extend(commits[one].says.parents if one in commits else ())
    return found


def test_commits_of_a_push_follow_one_another():
    facts = github("push", push(commit("a", added=["b/x", "a"], modified=["a"]), commit("b")))
    assert [fact.key for fact in facts] == [sha("a"), sha("b")]
    assert facts[1].id == f"{facts[0].id}/1"
    first, second = (fact.says for fact in facts)
    assert first == CommitSays(
        repository="github.com/shop/checkout", parents=(sha("1"),), committed=at("08:00:00"), paths=("a", "b/x")
    )
    assert isinstance(second, CommitSays)
    assert second.parents == (sha("a"),)
    assert facts[0].at == at("09:00:00")


def test_a_merge_has_both_sides_as_its_past():
    """a and b were on the branch before: it is not said that they followed the main branch's head, for they did not."""
    facts = github("push", push(commit("a", False), commit("b", False), commit("c")))
    says = {fact.key: fact.says for fact in facts}
    assert isinstance(says[sha("a")], CommitSays)
    assert says[sha("a")].parents == says[sha("b")].parents == ()
    assert says[sha("c")].parents == (sha("1"), sha("a"), sha("b"))
    assert ancestors(facts, sha("c")) == {sha(d) for d in "1abc"}


def test_a_fast_forward_of_known_commits_follows_the_old_head():
    facts = github("push", push(commit("a", False), commit("b", False)))
    assert ancestors(facts, sha("b")) == {sha(d) for d in "1ab"}


def test_a_release_branch_into_which_main_is_merged_does_not_mix_up_main():
    settings = Settings(branches=("release/*",))
    main = github("push", push(commit("a"), commit("b")))
    release = github(
        "push",
        push(commit("a", False), commit("b", False), commit("c"), before=sha("2"), ref="refs/heads/release/1"),
        settings=settings,
    )
    for order in (main + release, release + main):
        assert ancestors(order, sha("b")) == {sha(d) for d in "1ab"}
        assert ancestors(order, sha("c")) == {sha(d) for d in "12abc"}


def test_after_a_forced_push_the_old_head_is_no_ancestor():
    facts = github("push", push(commit("a"), commit("b"), forced=True))
    assert ancestors(facts, sha("b")) == {sha("a"), sha("b")}


@pytest.mark.parametrize(
    "body",
    [
        push(commit("a"), ref="refs/heads/prices"),
        push(commit("a"), ref="refs/tags/main"),
        push(commit("a"), ref="main"),
        push(ref="refs/heads/main", after=sha("0"), deleted=True),
    ],
)
def test_branches_that_nothing_is_released_from_say_nothing(body):
    assert github("push", body, settings=Settings(branches=("release/*",))) == []


def test_a_new_branch_has_no_old_head():
    facts = github("push", push(commit("a"), before=sha("0")))
    assert [fact.says.parents for fact in facts if isinstance(fact.says, CommitSays)] == [()]


def test_a_push_without_commits_still_joins_the_heads():
    (fact,) = github("push", push(after=sha("9")))
    assert isinstance(fact.says, CommitSays)
    assert (fact.key, fact.says.parents) == (sha("9"), (sha("1"),))


def test_a_push_whose_repository_has_its_moment_in_seconds():
    (fact,) = github("push", push(commit("a"), repository=REPOSITORY | {"pushed_at": 1795770000}))
    assert fact.at == at("09:00:00")


# --- GitHub: deployments and workflows


def test_a_deployment_is_a_release_of_its_repositorys_service():
    (fact,) = github("deployment_status", deployment_status())
    assert (fact.key, fact.at) == ("github.com/shop/checkout/deployments/5", at("09:05:00"))
    assert fact.says == ReleaseSays(
        service="checkout",
        environment="production",
        artifact=sha("e"),
        commit=sha("e"),
        repository="github.com/shop/checkout",
        by="mona",
        outcome="Promoted",
        requested=at("09:00:00"),
        exposed=at("09:05:00"),
        promoted=at("09:05:00"),
    )


def test_a_monorepo_names_the_service_in_the_deployments_payload():
    (fact,) = github("deployment_status", deployment_status(payload={"service": "prices"}))
    assert isinstance(fact.says, ReleaseSays)
    assert fact.says.service == "prices"
    for odd in ('{"service": "prices"}', None, {"service": 7}, {"service": ""}, []):
        (fact,) = github("deployment_status", deployment_status(payload=odd))
        assert isinstance(fact.says, ReleaseSays)
        assert fact.says.service == "checkout"


@pytest.mark.parametrize("state", ["failure", "error"])
def test_a_deployment_that_failed_has_reached_nobody_as_far_as_is_known(state):
    says = github("deployment_status", deployment_status(state))[0].says
    assert isinstance(says, ReleaseSays)
    assert (says.outcome, says.exposed, says.promoted) == ("Aborted", None, None)


def test_a_deployment_on_its_way_and_one_that_a_newer_one_replaced():
    says = github("deployment_status", deployment_status("in_progress"))[0].says
    assert isinstance(says, ReleaseSays)
    assert (says.outcome, says.requested, says.promoted) == (None, at("09:00:00"), None)
    assert github("deployment_status", deployment_status("inactive")) == []
    plain = {key: value for key, value in deployment_status().items() if key != "deployment_status"}
    assert github("deployment", plain)[0].at == at("09:00:00")


def test_a_workflows_run_and_its_job():
    (run,) = github("workflow_run", workflow_run())
    assert run.says == RunSays(
        repository="github.com/shop/checkout",
        name="build",
        commit=sha("a"),
        branch="prices",
        url="https://github.com/Shop/Checkout/actions/runs/77",
        result="success",
        queued=at("08:00:00"),
        started=at("08:00:05"),
        finished=at("08:04:00"),
    )
    (job,) = github("workflow_job", workflow_job())
    assert isinstance(job.says, RunSays)
    assert (job.says.parent, job.says.result) == (run.key, "failure")
    assert (job.says.queued, job.says.started, job.says.finished) == (at("08:00:00"), at("08:01:00"), at("08:03:00"))


def test_a_second_attempt_is_a_run_of_its_own_that_waited_from_its_own_start():
    (run,) = github("workflow_run", workflow_run(run_attempt=2))
    assert run.key.endswith("/runs/77/2")
    assert isinstance(run.says, RunSays)
    assert run.says.queued == at("08:00:05")


def test_what_waits_has_not_started_whatever_its_started_at():
    for fact in (
        *github("workflow_run", workflow_run(status="queued", conclusion=None)),
        *github("workflow_job", workflow_job(status="queued", conclusion=None, completed_at=None)),
    ):
        assert isinstance(fact.says, RunSays)
        assert (fact.says.started, fact.says.finished, fact.says.result) == (None, None, "")


@pytest.mark.parametrize("event", ["ping", "issues", "star", "check_run", "something_new"])
def test_events_that_nobody_reads_are_taken_and_say_nothing(event):
    assert github(event, {"zen": "Keep it logically awesome."}) == []


def test_what_is_wrong_with_a_webhook_is_said():
    with pytest.raises(Refused, match=r"415: set the webhook's content type to application/json"):
        READERS["github"].facts({"Content-Type": "application/x-www-form-urlencoded"}, b"payload=%7B%7D", Settings())
    with pytest.raises(Refused, match=r"422: the header X-GitHub-Event is needed"):
        READERS["github"].facts({}, b"{}", Settings())
    with pytest.raises(Refused, match=r"422: pull_request.number: Input should be a valid integer, and this is a text"):
        github("pull_request", pull_request(number="12"))
    with pytest.raises(Refused, match=r"422: after: expected a commit's hash"):
        github("push", push(after="HEAD"))
    with pytest.raises(Refused, match=r"422: .*url: String should have at most 512 characters"):
        github("pull_request", pull_request(html_url="https://" + "x" * 600))


def test_githubs_published_examples_are_all_taken():
    """Of github.com and of six versions of its server. That one is refused would be a change of GitHub's, or a fault here."""
    files = examples.there()
    if not files:
        pytest.skip(examples.MISSING)
    told, read, refused = Counter[str](), 0, []
    for path in files:
        for event in json.loads(path.read_text()):
            for number, example in enumerate(event["examples"]):
                name = f"{path.parent.name}-{event['name']}-{number}"
                read += 1
                try:
                    told.update(fact.about for fact in github(event["name"], example, name))
                except Refused as failure:
                    refused.append(f"{name}: {failure}")
    assert refused == []
    assert read > 500
    assert set(told) == {"change", "commit", "release", "run"}


def test_examples_that_are_not_what_was_pinned_are_not_unpacked(tmp_path):
    packed = tmp_path / "examples.tgz"
    with tarfile.open(packed, "w:gz") as archive:
        for name in ("package/api.github.com/index.json", "package/../index.json", "/index.json", "package/README.md"):
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"[]"))
    with pytest.raises(examples.Tampered, match="do not use it"):
        examples.unpack(packed, tmp_path / "no")
    assert not (tmp_path / "no").exists()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    examples.unpack(packed, tmp_path / "yes", digest)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")] == ["yes/api.github.com/index.json"]


# --- GitLab


def test_a_merge_request_that_was_opened():
    (fact,) = gitlab(merge_request())
    assert (fact.source, fact.key, fact.at) == ("gitlab", MERGE_REQUEST, at("08:30:00"))
    assert fact.says == ChangeSays(
        repository="gitlab.example:8443/shop/checkout",
        number="3",
        title="Prices with two digits",
        url="https://gitlab.example:8443/shop/checkout/-/merge_requests/3",
        author="root",
        branch="prices",
        base="main",
        labels=("bug",),
        opened=at("08:00:00"),
        commits=(sha("a"),),
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"merge_commit_sha": sha("e")}, sha("e")),
        ({"merge_commit_sha": None, "squash_commit_sha": sha("d")}, sha("d")),
        ({"merge_commit_sha": None}, sha("a")),
    ],
)
def test_a_merge_request_that_was_merged(fields, expected):
    says = gitlab(merge_request("merge", **fields))[0].says
    assert isinstance(says, ChangeSays)
    assert (says.merged, says.closed, says.merge_commit) == (at("08:30:00"), at("08:30:00"), expected)


def test_a_merge_request_that_was_closed_reopened_and_changed():
    closed, reopened, updated = (gitlab(merge_request(action))[0].says for action in ("close", "reopen", "update"))
    assert isinstance(closed, ChangeSays)
    assert isinstance(reopened, ChangeSays)
    assert isinstance(updated, ChangeSays)
    assert (closed.closed, closed.merged, closed.merge_commit) == (at("08:30:00"), None, "")
    assert reopened.reopened == at("08:30:00")
    assert (updated.closed, updated.reopened, updated.merged, updated.first_review) == (None, None, None, None)


def test_an_approval_by_another_is_a_review():
    def approved(user: dict[str, Any]) -> Any:
        (fact,) = gitlab(merge_request("approved") | {"user": user})
        assert isinstance(fact.says, ChangeSays)
        return fact.says

    other = approved({"id": 2, "username": "ada"})
    assert (other.first_review, other.author) == (at("08:30:00"), "")
    assert approved({"id": 1, "username": "root"}).first_review is None


def test_a_push_to_gitlab():
    facts = gitlab(gitlab_push(commit("a", modified=["x"]), commit("b")))
    assert ancestors(facts, sha("b")) == {sha(d) for d in "1ab"}
    says = facts[0].says
    assert isinstance(says, CommitSays)
    # Whether it is new, or came by a merge, GitLab does not say.
    assert (says.paths, says.parents) == (("x",), ())
    assert gitlab(gitlab_push(commit("a"), ref="refs/heads/prices")) == []
    assert gitlab(gitlab_push(commit("a"), commits=[])) == []


def test_a_deployment_by_gitlab():
    (fact,) = gitlab(gitlab_deployment())
    assert fact.key == "gitlab.example:8443/shop/checkout/deployments/15"
    assert fact.says == ReleaseSays(
        service="checkout",
        environment="production",
        artifact=sha("e"),
        commit=sha("e"),
        repository="gitlab.example:8443/shop/checkout",
        by="root",
        outcome="Promoted",
        exposed=at("09:05:00"),
        promoted=at("09:05:00"),
    )
    says = gitlab(gitlab_deployment(commit_url=None))[0].says
    assert isinstance(says, ReleaseSays)
    assert says.commit == "eeeeeeee"


@pytest.mark.parametrize(
    ("status", "outcome", "requested"), [("running", None, True), ("failed", "Aborted", False), ("canceled", "Aborted", False)]
)
def test_a_deployment_by_gitlab_that_has_not_succeeded(status, outcome, requested):
    says = gitlab(gitlab_deployment(status))[0].says
    assert isinstance(says, ReleaseSays)
    assert (says.outcome, says.exposed, says.requested is not None) == (outcome, None, requested)


def test_a_pipeline_tells_its_jobs_when_it_is_over():
    run, job_of_it = gitlab(pipeline())
    assert isinstance(run.says, RunSays)
    assert (run.says.result, run.says.queued, run.says.started) == ("success", at("08:00:00"), at("08:01:00"))
    assert run.says.finished == run.at == at("08:04:00")
    assert isinstance(job_of_it.says, RunSays)
    assert (job_of_it.says.parent, job_of_it.says.result) == (run.key, "failure")
    (running,) = gitlab(pipeline("running", finished_at=None))
    assert isinstance(running.says, RunSays)
    assert (running.says.result, running.says.finished, running.at) == ("", None, at("08:03:00"))


def test_a_job_says_the_same_as_its_pipeline_does():
    (alone,) = gitlab(job())
    _, within = gitlab(pipeline())
    assert (alone.key, alone.says, alone.at) == (within.key, within.says, within.at)
    assert alone.at == at("08:03:00")


def test_a_job_waits_for_a_runner_since_it_was_queued_not_since_its_pipeline_was_created():
    (told,) = gitlab(job(build_queued_duration=12.4))
    assert isinstance(told.says, RunSays)
    assert told.says.queued == at("08:00:48")
    for odd in (None, -1, 1e300):
        (told,) = gitlab(job(build_queued_duration=odd))
        assert isinstance(told.says, RunSays)
        assert told.says.queued == at("08:00:00")


@pytest.mark.parametrize("kind", ["note", "issue", "tag_push", "wiki_page", "emoji", None, 7, [], {}])
def test_kinds_that_nobody_reads_are_taken_and_say_nothing(kind):
    assert gitlab({"object_kind": kind}) == []


def test_hooks_that_set_off_others_share_an_id_and_are_still_two():
    reader, shared = READERS["gitlab"], {"X-Gitlab-Event-UUID": "13792a34-cac6-4fda-95a8-c58e00a3954e"}
    one, two = encoded(merge_request()), encoded(job())
    assert reader.delivered(shared, one) != reader.delivered(shared, two)
    assert reader.delivered(shared | {"Idempotency-Key": "k"}, one) == "k"


def test_a_project_on_an_unusual_port_is_named_with_it():
    assert PROJECT["web_url"] == "https://gitlab.example:8443/shop/checkout"
    assert gitlab(job())[0].key.startswith("gitlab.example:8443/shop/checkout/jobs/")
