"""Simulated rollouts: the world's numbers are right, nothing is skipped that matters, known answers come out."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.model import canary
from typer.testing import CliRunner

from serinus.analysis.sequential import Rule
from serinus.api.canary import Canary, CanaryStatus
from serinus.api.canary import Traffic as Router
from serinus.cli.app import app
from serinus.simulation.picture import picture
from serinus.simulation.rollout import Check, Rollout, Run
from serinus.simulation.study import Row, Study, quantile
from serinus.simulation.traffic import Failing, Load, Traffic, poisson

CHECK = Check("errors", Rule(harm=0.01))
LOAD = Load(100)
BAD, GOOD = Failing(0.33, 0.001), Failing(0.001, 0.001)
PLAN = [{"weight": 5}, {"weight": 25, "duration": "2m"}, {"weight": 50}, {"weight": 100, "duration": "30s"}]


#: 40 rollouts: enough for what is (nearly) sure.
COUNT = 40


def planned(steps: list[dict[str, Any]] = PLAN, **analysis: Any) -> Canary:
    checks = [{"name": "errors", "harm": "1%", "ratio": {"bad": "b", "total": "t"}}]
    return canary(steps=steps, analysis={"metrics": checks, **analysis})


def runs(
    spec: Canary, failing: Failing, count: int = COUNT, load: Load = LOAD, check: Check = CHECK, limit: float = 3600
) -> list[Run]:
    return [Rollout(spec, [check], load, failing, random.Random(seed)).run(limit) for seed in range(count)]  # noqa: S311


# --- traffic


@pytest.mark.parametrize("expected", [0.5, 20, 500])
def test_counts_have_the_mean_and_the_variance_of_a_poisson_variate(expected: float) -> None:
    rng = random.Random(1)  # noqa: S311
    drawn = [poisson(rng, expected) for _ in range(4000)]
    assert mean(drawn) == pytest.approx(expected, abs=4 * math.sqrt(expected / 4000))
    assert mean((n - expected) ** 2 for n in drawn) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("clump", [1, 20])
def test_traffic_is_split_as_the_share_says_and_fails_as_often_as_it_should(clump: int) -> None:
    traffic = Traffic(Load(1000, clump), Failing(0.2, 0.05), random.Random(2), phase=5)  # noqa: S311
    traffic.turn(0, 0.1)
    (bad, total), (beside_bad, beside_total) = traffic.read(5000)
    assert total == pytest.approx(500_000, rel=0.01)
    assert beside_total == pytest.approx(4_500_000, rel=0.01)
    assert bad / total == pytest.approx(0.2, rel=0.05)
    assert beside_bad / beside_total == pytest.approx(0.05, rel=0.05)
    assert bad % clump == beside_bad % clump == 0


def test_what_is_not_scraped_yet_is_not_seen_and_nothing_is_seen_twice() -> None:
    traffic = Traffic(Load(100, scrape=5), Failing(1, 0), random.Random(3), phase=2)  # noqa: S311
    traffic.turn(0, 0.5)
    assert traffic.read(1.9)[0] == (0, 0)
    first = traffic.read(4)[0]
    assert 0 < first.total < 200, "of the 2 s to the scrape"
    traffic.turn(6, 1.0)  # after this, before the scrape at 7
    assert traffic.read(6.9)[0] == (0, 0)
    second = traffic.read(11.9)[0]
    assert traffic.read(11.95)[0] == (0, 0)
    traffic.turn(12)
    assert traffic.failed == first.bad + second.bad + traffic.read(12)[0].bad


def test_the_serving_version_was_counted_before_the_canary_came() -> None:
    traffic = Traffic(Load(1000, scrape=10), GOOD, random.Random(4), phase=1)  # noqa: S311
    traffic.turn(0, 0.5)
    judged, beside = traffic.read(1)
    assert judged.total == pytest.approx(500, abs=100)
    assert beside.total == pytest.approx(9000 + 500, abs=400)


# --- one rollout

PLANS = {
    "as the README has it": planned(),
    "pauses": planned([{"pause": {}}, {"weight": 10}, {"pause": {}}, {"pause": {}}, {"weight": 50}, {"pause": {}}]),
    "bounds": planned([{"weight": 5, "minDuration": "20s", "maxDuration": "40s"}, {"weight": 100, "maxDuration": "1m"}]),
    "warm-up": planned(warmUp="7s", interval="2s"),
    "seldom looks": planned(interval="45s"),
    "rolled back without data": planned(noData="fail", noDataAfter="1s"),
    "goes on without data": planned(noData="pass", noDataAfter="3s"),
    "moments": planned([{"weight": 50, "duration": "0s"}, {"weight": 100, "duration": "1ms"}]),
}


@pytest.mark.parametrize("spec", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("failing", [GOOD, Failing(0.03, 0.01), BAD])
def test_a_pass_at_every_look_decides_nothing_else(spec: Canary, failing: Failing) -> None:
    for seed, load in enumerate([Load(100), Load(2, scrape=1), Load(0.1, clump=3, scrape=30)] * 3):
        short, long = (
            Rollout(spec, [CHECK], load, failing, random.Random(seed)).run(900, every)  # noqa: S311
            for every in (False, True)
        )
        assert short == long


def ended(found: list[Run], outcome: str) -> int:
    return sum(run.outcome == outcome for run in found)


def test_a_bad_version_goes_back_soon_and_a_good_one_is_promoted() -> None:
    bad, good = runs(planned(), BAD), runs(planned(), GOOD)
    assert ended(bad, "RolledBack") == COUNT
    assert median(run.seconds for run in bad) < 20
    assert median(run.failed for run in bad) < 40
    assert ended(good, "Promoted") >= COUNT - 1
    assert min(run.seconds for run in good if run.outcome == "Promoted") > 2 * 60 + 30, "the steps' durations"


def test_a_version_that_fails_as_often_as_the_serving_one_is_rarely_rolled_back_though_both_fail_above_harm() -> None:
    found = runs(planned(severe="0%"), Failing(0.05, 0.05), 200, Load(50, clump=5), limit=120)
    assert ended(found, "RolledBack") <= 200 * 0.01 + 4 * math.sqrt(200 * 0.01)


def test_older_samples_and_less_traffic_make_it_slower() -> None:
    def typical(load: Load) -> float:
        return median(run.seconds for run in runs(planned(), BAD, load=load))

    assert typical(Load(100, scrape=1)) < typical(Load(100, scrape=15)) < typical(Load(10, scrape=60))


def test_without_traffic_it_does_not_end() -> None:
    (run,) = runs(planned(), BAD, 1, Load(1e-6), limit=600)
    assert run == Run("NotEnded", 600, 0)


def test_a_step_lasts_as_long_as_it_says() -> None:
    spec = planned([{"weight": 50, "duration": "90s"}, {"pause": {}}, {"weight": 100, "minDuration": "1m", "maxDuration": "1m"}])
    (run,) = runs(spec, GOOD, 1, Load(100, scrape=1))
    assert run.outcome == "Promoted"
    assert run.seconds == 150


def test_without_a_version_beside_it_a_rate_above_harm_is_enough() -> None:
    """Compared, 5 % beside 5 % is no worse."""
    alone = runs(planned(), Failing(0.05, 0.05), check=replace(CHECK, compared=False))
    assert ended(alone, "RolledBack") == COUNT


def test_with_all_of_the_traffic_there_is_nothing_to_compare_with() -> None:
    spec = planned([{"weight": 100, "duration": "2m"}], severe="0%")
    assert ended(runs(spec, Failing(0.05, 0.001)), "RolledBack") == COUNT


def test_while_pods_warm_up_nothing_is_counted() -> None:
    assert min(run.seconds for run in runs(planned(warmUp="1m"), BAD)) > 60


def test_pods_without_a_router_take_half_of_the_traffic_at_most() -> None:
    spec = planned([{"weight": 100, "duration": "100s"}], severe="0%")
    spec.spec.traffic = Router.model_validate({"podRatio": {}})
    all_bad = runs(spec, Failing(1.0, 0.001), 1, check=Check("errors", Rule(0.01, alpha=1e-300)), limit=90)
    assert all_bad[0].outcome == "NotEnded"
    assert all_bad[0].failed == pytest.approx(90 * 100 / 2, rel=0.1)


def test_what_a_canary_that_was_read_from_a_cluster_remembers_plays_no_part() -> None:
    spec = planned()
    spec.status = CanaryStatus(last_traffic_end=datetime(2030, 1, 1, tzinfo=UTC))
    assert runs(spec, BAD, 2) == runs(planned(), BAD, 2)


# --- many, and how they are shown


def test_the_same_seed_gives_the_same_again_and_another_one_does_not() -> None:
    study = Study(planned(), [CHECK], LOAD, runs=5)
    assert list(study.rollouts(BAD)) == list(study.rollouts(BAD))
    assert list(study.rollouts(BAD)) != list(replace(study, seed=2).rollouts(BAD))


def test_only_the_first_check_sees_the_canary_fail() -> None:
    study = Study(planned(), [Check("slow", Rule(0.01)), Check("errors", Rule(0.999))], LOAD, runs=5)
    assert all(run.outcome == "RolledBack" for run in study.rollouts(BAD))
    assert all(run.outcome == "Promoted" for run in replace(study, checks=study.checks[::-1]).rollouts(BAD))


def test_nearly_all_is_not_called_all() -> None:
    row = Row(GOOD, [Run("RolledBack", 1, 1), *[Run("Promoted", 1, 1)] * 999])
    assert (row.part("RolledBack"), row.part("Promoted"), row.part("NotEnded")) == ("0.1 %", "99.9 %", "0 %")


@pytest.mark.parametrize(("part", "expected"), [(0, 1), (0.05, 1), (0.5, 2), (0.51, 3), (0.95, 4), (1, 4)])
def test_quantiles_are_values_that_were_there(part: float, expected: float) -> None:
    assert quantile([1, 2, 3, 4], part) == expected


ROW = Row(
    Failing(0.05, 0.01), [Run("RolledBack", 30, 4), Run("RolledBack", 10, 2), Run("Promoted", 200, 9), Run("NotEnded", 600, 1)]
)


def test_a_row_counts_each_outcome_by_itself() -> None:
    dumped = ROW.dump()
    assert [dumped[key] for key in ("runs", "rolledBack", "promoted", "notEnded")] == [4, 2, 1, 1]
    assert dumped["secondsToRollback"] == {"p5": 10, "p50": 10, "p95": 30, "p100": 30}
    assert dumped["failedToRollback"] == {"p5": 2, "p50": 2, "p95": 4, "p100": 4}
    assert dumped["secondsToPromotion"] == {"p5": 200, "p50": 200, "p95": 200, "p100": 200}


def test_the_picture_has_a_line_a_row_that_ends_at_the_share_that_was_rolled_back() -> None:
    good = Row(Failing(0.01, 0.01), [Run("Promoted", 200, 0)])
    root = ElementTree.fromstring(picture("a < b", [ROW, good]))  # noqa: S314  # our own
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{space}text")]
    assert "a < b" in texts
    assert {"5 % fail: 50 %", "good canary: 0 %"} <= set(texts)
    lines = [line.attrib["points"].split() for line in root.iter(f"{space}polyline")]
    heights = [[float(point.split(",")[1]) for point in line] for line in lines]
    bottom, top = heights[1][0], 48
    assert heights[0][-1] == pytest.approx((bottom + top) / 2)
    assert set(heights[1]) == {bottom}
    across = [float(point.split(",")[0]) for point in lines[0]]
    assert across == sorted(across)
    assert heights[0] == sorted(heights[0], reverse=True)


# --- the command

CANARY = """
kind: Canary
metadata: {name: checkout}
spec:
  targetRef: {name: checkout}
  service: {name: checkout, port: 80}
  traffic: {podRatio: {}}
  steps: [{weight: 20}, {pause: {}}]
  analysis:
    metrics:
    - {name: latency, query: q, max: 1}
    - {name: errors, templateRef: {name: gateway}}
    - {name: slow, harm: 5%, ratio: {bad: b, total: t}}
"""
TEMPLATE = """
kind: MetricTemplate
metadata: {name: gateway}
spec: {harm: 2%, ratio: {bad: b, total: t}}
"""


def invoked(tmp_path: Path, *arguments: str, canary: str = CANARY, code: int = 0) -> str:
    """What the command says, to either stream."""
    (tmp_path / "canary.yaml").write_text(canary)
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    names = [str(tmp_path / argument) if argument.endswith(".yaml") else argument for argument in arguments]
    done = CliRunner().invoke(app, ["simulate", *names])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


BOTH = ("canary.yaml", "template.yaml", "--runs", "3", "--limit", "10m")


def test_the_command_prints_a_row_a_rate_and_one_for_a_good_canary(tmp_path: Path) -> None:
    said = invoked(tmp_path, *BOTH, "--canary", "50%", "--canary", "20%", "--clump", "2", "--rate", "50")
    assert said.startswith("checkout: 3 rollouts a row, 50 requests a second, bad ones in bursts of 2, read every 5 s;")
    assert re.search(r"50 % 100 % \d+ \(\d+\) s \d+ \(\d+\) 0 % - 0 % 20 % 100 % ", said)
    assert re.search(r"0\.1 % \(good\) 0 % - - 100 % \d+ \(\d+\) s", said)
    assert "Bad requests are bad by errors; by the other ratios both versions fail as the serving one does." in said
    assert "Left out, because a query's numbers cannot be made up: latency." in said
    assert "Pause steps are taken as resumed at once." in said


def test_the_command_gives_json_and_a_picture(tmp_path: Path) -> None:
    to = tmp_path / "out.svg"
    said = json.loads(invoked(tmp_path, *BOTH, "--json", "--check", "slow", "--picture", str(to)))
    assert [row["canary"] for row in said["rows"]] == [0.05, 0.001]
    assert said["notes"][0].startswith("Bad requests are bad by slow;")
    assert to.read_text().startswith("<svg ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["canary.yaml"], "errors is judged by the MetricTemplate default/gateway, which is in none of the files"),
        (["nope.yaml"], "nope.yaml cannot be read: "),
        (["template.yaml"], "one Canary is needed, and "),
        (["canary.yaml", "canary.yaml"], "has checkout, checkout"),
        ([*BOTH, "--check", "latency"], "there is no ratio 'latency' to fail; there are errors, slow"),
    ],
)
def test_what_cannot_be_simulated_is_said(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    assert sentence in invoked(tmp_path, *arguments, code=1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (CANARY.replace("weight: 20", "weight: 200"), "Canary: spec.steps.0.weight: Input should be less than or equal to 100"),
        (CANARY.replace("{weight: 20}, ", ""), "Canary checkout has no weight to go to; it needs spec.steps or spec.stepWeights"),
        (CANARY.split("    - {name: errors")[0], "has no ratio in spec.analysis.metrics"),
        ("a: [", "is no YAML: "),
    ],
)
def test_a_canary_that_cannot_be_one_is_said_to_be_so(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in invoked(tmp_path, *BOTH, canary=text, code=1)


@pytest.mark.parametrize("option", [("--canary", "5"), ("--serving", "101%"), ("--scrape", "5"), ("--limit", "0s")])
def test_options_that_are_no_share_or_no_time_are_refused(tmp_path: Path, option: tuple[str, str]) -> None:
    assert "Invalid value" in invoked(tmp_path, *BOTH, *option, code=2)
