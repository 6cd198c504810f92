"""`serinus why`: the story of a release, from hand-made ones; and that kubectl finds the command."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from importlib.metadata import entry_points
from typing import Any

import pytest
from tests.apiserver import Client, Server
from tests.model import START, canary, release

from serinus.analysis.sequential import Counts, Rule, begun, judge, look
from serinus.api.base import OWNED_LABEL
from serinus.api.canary import Canary
from serinus.api.crdgen import ROOT
from serinus.api.release import Evidence, Exposure, ReleaseStatus, StepReached, Times
from serinus.cli import why
from serinus.cli.app import app
from serinus.cli.why import chosen, missing, story
from serinus.kube import CANARIES, RELEASES, Unreachable


def at(seconds: float) -> Any:
    return START + timedelta(seconds=seconds)


def checked(**analysis: Any) -> Canary:
    return canary(analysis={"metrics": [{"name": "errors", "harm": "1%", "ratio": {"bad": "b", "total": "t"}}], **analysis})


def told(status: ReleaseStatus, spec: Canary | None = None, **fields: Any) -> str:
    one = release(images=["shop:2"], **fields)
    one.status = status
    return "\n".join(story(one, spec))


def bad_release() -> ReleaseStatus:
    """One request in three failed on the canary, at two looks."""
    tally = begun()
    for seconds in (1.0, 2.0):
        tally = look(Rule(harm=0.01), tally, Counts(4, 12), Counts(0, 228), at(seconds))
    found = judge("errors", Rule(harm=0.01), tally)
    assert found.verdict == "Fail"
    return ReleaseStatus(
        stage="Keeping",
        outcome="RolledBack",
        reason="AnalysisFailed",
        why=found.sentence,
        times=Times(
            canary_ready=at(-1),
            first_exposed=at(0),
            fault_began=at(1),
            decided=at(2.2),
            zero_written=at(2.3),
            zero_verified=at(2.9),
        ),
        steps=[StepReached(weight=5, at=at(0))],
        evidence=[found.evidence()],
        exposure=Exposure(requests=24, failures=8, share_seconds=0.1),
    )


def test_rolled_back_by_its_numbers() -> None:
    text = told(bad_release(), checked())
    lines = text.splitlines()
    assert lines[0] == "web-1: new (shop:2) was rolled back (AnalysisFailed)"
    assert lines[1] == f"  {bad_release().why}"
    moments = lines[lines.index("When (UTC, and seconds since the line above)") + 1 :][:6]
    assert [line.split(None, 1)[0] for line in moments] == [
        "23:59:59.0", "00:00:00.0", "00:00:01.0", "00:00:02.2", "00:00:02.3", "00:00:02.9"
    ]  # fmt: skip
    assert moments[1].endswith("+1.0 s  it had its first traffic")
    assert moments[3].endswith("+1.2 s  it was decided to go back")
    assert moments[5].endswith("+0.6 s  the canary's traffic was at zero")
    assert "  errors: Fail, harm limit 1 %" in lines
    assert "    this version     8 bad of 24 requests: 33 %" in lines
    assert "    the one beside   0 bad of 456 requests: 0 %" in lines
    assert "    272.5 to 1 that it is worse, 100 to 1 needed; 2 looks" in lines
    assert "  24 requests went to it, and 8 of them failed, as the checks counted." in lines
    assert "Users are safe" in text
    assert "kubectl annotate canary web -n shop --overwrite serinus.dev/retry=web-1" in text
    assert "abort" not in text


def test_the_odds_that_were_needed_are_split_over_the_checks_and_unknown_without_the_canary() -> None:
    two = checked(falseRollbacks="4%")
    two.spec.analysis.metrics *= 2
    assert "worse, 50 to 1 needed; 2 looks" in told(bad_release(), two)
    assert "272.5 to 1 that it is worse; 2 looks" in told(bad_release(), None)
    assert "272.5 to 1 that it is worse; 2 looks" in told(bad_release(), canary())


def test_rolled_back_by_a_crash_loop_without_any_traffic() -> None:
    crashed = "container shop crashed twice: exit code 1; new never had traffic"
    status = ReleaseStatus(
        stage="Ended",
        outcome="RolledBack",
        reason="CrashLoop",
        why=crashed,
        times=Times(decided=at(4), zero_verified=at(4), ended=at(5)),
    )
    text = told(status, canary())
    assert "new (shop:2) was rolled back (CrashLoop)\n  container shop crashed twice" in text
    assert "What users saw" not in text
    assert "What the checks saw" not in text
    assert "serinus.dev/retry=web-1" in text


def test_traffic_that_is_still_going_back_is_not_called_safe() -> None:
    status = bad_release()
    status.stage, status.times.zero_verified = "RollingBack", None
    assert "Users are safe" not in told(status)
    assert "Traffic goes back right now" in told(status)


def test_promoted() -> None:
    times = Times(first_exposed=at(0), unpaused=at(60), promoted=at(70), returning=at(70), zero_verified=at(75.5), ended=at(80))
    text = told(ReleaseStatus(stage="Ended", outcome="Promoted", reason="Promoted", why="new serves all traffic", times=times))
    assert text.startswith("web-1: new (shop:2) was promoted\n")
    assert "+60.0 s  every step was passed" in text
    assert text.endswith("What to do next\n  Nothing: it serves.")


@pytest.mark.parametrize(("stage", "resumes"), [("Stepping", False), ("Paused", True)])
def test_under_way(stage: Any, resumes: bool) -> None:
    status = ReleaseStatus(stage=stage, step=1, weight=25, why="not enough evidence yet", times=Times(first_exposed=at(0)))
    text = told(status, canary())
    assert text.startswith(f"web-1: new (shop:2) is under way: {stage}, step 2, weight 25 %\n")
    assert "serinus.dev/abort=web-1" in text
    assert ("serinus.dev/resume=web-1/1" in text) == resumes
    assert "retry" not in text


def test_of_an_old_release_nothing_is_left_to_do() -> None:
    spec = canary()
    spec.status.release = "web-2"
    text = told(bad_release(), spec)
    assert text.endswith("What to do next\n  This is history; the newest release is web-2.")


def test_a_check_without_counts_says_its_sentence() -> None:
    status = bad_release()
    status.evidence = [Evidence(metric="latency", verdict="NoData", sentence="latency: the query returned nothing")]
    assert "What the checks saw\n  latency: NoData\n    latency: the query returned nothing\n" in told(status)


def test_the_newest_is_chosen_or_the_one_that_is_named() -> None:
    first, second = release(), release(requested_at=at(10))
    second.metadata.name = "web-2"
    assert chosen([second, first]) is second
    assert chosen([second, first], "web-1") is first
    assert chosen([second, first], "web-3") is None
    assert chosen([]) is None


def test_what_is_not_there_is_said_with_a_remedy() -> None:
    assert missing("shop", "web", "", None).startswith("there is no Canary web in namespace shop; ")
    assert missing("shop", "web", "", canary()) == (
        "Canary web (Adopting) has had no release yet: the first is the next version applied to Deployment web"
    )
    assert "no release web-9" in missing("shop", "web", "web-9", canary())


class Closing(Client):
    closed = False

    async def close(self) -> None:
        self.closed = True


def reached(monkeypatch: pytest.MonkeyPatch, server: Server, gate: Any = lambda _, work: work()) -> Closing:
    """The API server that the command finds."""
    client = Closing(server, gate)

    async def connect() -> Closing:
        return client

    monkeypatch.setattr(why, "connect", connect)
    return client


async def test_it_is_read_from_the_releases_of_this_canary(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(lambda: START)
    server.create(CANARIES, "shop", canary().dump())
    for name, of, seconds in (("web-1", "web", 0), ("web-2", "web", 10), ("web-3", "other", 20)):
        one = release(requested_at=at(seconds), canary=of).dump()
        one["metadata"] |= {"name": name, "labels": {OWNED_LABEL: "web"}}
        server.create(RELEASES, "shop", one)
    client = reached(monkeypatch, server)
    assert await why.report("shop", "web", "") == 0
    assert capsys.readouterr().out.startswith("web-2: new is under way: Preparing\n")
    assert await why.report("shop", "web", "web-1") == 0
    assert capsys.readouterr().out.startswith("web-1: ")
    assert await why.report("shop", "web", "web-3") == 1
    assert await why.report("elsewhere", "web", "") == 1
    assert client.closed


async def test_an_api_server_that_cannot_be_asked_is_said_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gate(*_: Any) -> Any:
        raise Unreachable(0, "connection refused")

    client = reached(monkeypatch, Server(lambda: START), gate)
    assert await why.report("shop", "web", "") == 1
    assert capsys.readouterr().out == "the API server cannot be asked: connection refused\n"
    assert client.closed


def test_kubectl_finds_the_same_commands() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["kubectl-serinus"] == scripts["serinus"]
    (installed,) = entry_points(group="console_scripts", name="kubectl-serinus")
    assert installed.load() is app
