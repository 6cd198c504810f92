"""The exploration of tests/explore.py: nothing is found in what is there, and something in each of a number of seeded faults."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.explore import Explorer, Rules, Setting, State, Violation

from serinus.rollout import machine, order, rest

#: (what is wrong, module, the line that is right, the line that is wrong)
SEEDED = (
    (
        "weight before the pods are ready",
        machine,
        "enough, by_pods = a.obs.canary.ready >= a.pods(weight), a.obs.route.by_pods",
        "enough, by_pods = True, a.obs.route.by_pods",
    ),
    (
        "a failed look is overheard",
        machine,
        'elif a.obs.verdict and a.obs.verdict.kind == "Fail":\n        a.back',
        "elif False:\n        a.back",
    ),
    ("the next step before the router has taken this one", machine, "if not a.arrived():\n", "a.arrived()\n    if False:\n"),
    (
        "harm that is put down to a newer version",
        machine,
        'elif a.obs.verdict and a.obs.verdict.kind == "Fail":\n        a.back("RolledBack"',
        'elif a.obs.verdict and a.obs.verdict.kind == "Fail":\n        a.back("Superseded"',
    ),
    (
        "weight 0 taken as seen when it was only written",
        machine,
        "verified = route.weight == 0 and (not exposed or (a.arrived() and",
        "verified = route.weight == 0 and (not exposed or (True and",
    ),
    (
        "pods away in the pass that takes the traffic",
        machine,
        "pods=None if over else 0 if by_pods else kept,",
        "pods=None if over else 0,",
    ),
    ("the end before the canary is gone", machine, "if a.obs.route.restored and a.obs.canary.gone and undone:", "if undone:"),
    (
        "a share that stays on pods that are lost",
        machine,
        "a.status.weight = min(a.status.weight, carries(ready, a.replicas))\n    a.status.step_since = None\n    a.status.why",
        "a.status.why",
    ),
    (
        "an outcome that changes",
        machine,
        "        if a.status.outcome is None:\n            a.status.outcome,",
        "        if True:\n            a.status.outcome,",
    ),
    (
        "a drain that does not wait for the router",
        machine,
        "if a.arrived() and a.since(a.status.step_since) >= parse",
        "if a.since(a.status.stage_since) >= parse",
    ),
    ("a promotion after the first step", machine, "if index >= len(a.plan):", "if index >= 1:"),
    (
        "a new version released at rest",
        rest,
        "    if seen.serving:\n",
        "    if seen.serving or seen.paused:\n",
    ),
    (
        "a version after a rollback that is never tried",
        rest,
        '    if same and last and last.outcome in ("RolledBack", "Aborted") and status.new_revision == seen.revision and',
        '    if last and last.outcome in ("RolledBack", "Aborted") and',
    ),
    ("the record before the traffic", order, 'return ("Take", "Record",', 'return ("Record", "Take",'),
    (
        "traffic before the record",
        order,
        'return ("Record", "Objects", "Target", "Give", "Tell")',
        'return ("Give", "Record", "Objects", "Target", "Tell")',
    ),
    ("the routes are not put back", order, '"Target", "Restore", "Tell"', '"Target", "Tell"'),
    ("the traffic is not taken back", order, 'return ("Take", "Record",', 'return ("Record",'),
)


def seeded(module: types.ModuleType, right: str, wrong: str) -> types.ModuleType:
    """The module with one fault in it."""
    path = Path(str(module.__file__))
    source = path.read_text()
    assert source.count(right) >= 1, f"{path.name} has no {right!r} any more: seed the fault anew"
    changed = types.ModuleType(f"{module.__name__}_seeded")
    changed.__dict__["__name__"] = module.__name__  # dataclasses look their module up by name
    exec(compile(source.replace(right, wrong), str(path), "exec"), changed.__dict__)  # noqa: S102
    return changed


WORLDS = {
    "policy": Setting(faults=1),
    "pause": Setting(faults=1, hold="pause"),
    "a person goes on": Setting(faults=1, weights=(50,), pause=True),
}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_every_state_of_a_small_world(capsys: pytest.CaptureFixture[str], world: Setting) -> None:
    """With any one fault at any moment. `python -m tests.explore --faults 2` walks any two."""
    explorer = Explorer(world)
    states = explorer.explore()
    with capsys.disabled():
        sys.stderr.write(f"\n{states} states explored, {explorer.steps} steps between them\n")
    assert states > 10_000, "the exploration has become too small to mean anything"
    surplus = explorer.transitions() - documented()
    assert not surplus, f"docs/testing.md does not name these changes of stage: {surplus}"


def documented() -> set[tuple[str, str]]:
    """The table of transitions."""
    text = (Path(__file__).parent.parent / "docs" / "testing.md").read_text()
    rows = re.findall(r"^\| `([A-Z]\w+)` \| (.+) \|$", text, re.M)
    return {(before, after) for before, cell in rows for after in re.findall(r"`(\w+)`", cell)}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("module", "right", "wrong"), [each[1:] for each in SEEDED], ids=[each[0] for each in SEEDED])
def test_a_seeded_fault_is_found(module: types.ModuleType, right: str, wrong: str) -> None:
    changed = seeded(module, right, wrong)
    rules = Rules(
        advance=getattr(changed, "advance", machine.advance),
        writes=getattr(changed, "writes", order.writes),
        decide=getattr(changed, "decide", rest.decide),
    )
    with pytest.raises(Violation):
        Explorer(Setting(faults=1), rules).explore()


LARGE = Setting(weights=(5, 25, 50, 100), replicas=10, faults=6, verdicts=("none", "Wait", "Pass", "Fail", "NoData"))


@settings(max_examples=80)
@given(st.lists(st.integers(0, 10_000), min_size=20, max_size=150))
def test_ways_through_a_large_world(choices: list[int]) -> None:
    """Ten pods, four steps, six faults: too many states to walk all, so ways through them, a fault at every sixth turn or so."""
    explorer = Explorer(LARGE)
    at = State()
    for choice in choices:
        if choice % 6:
            ways = [
                (name, after._replace(faults=at.faults)) for name, after in explorer.successors(at._replace(faults=LARGE.faults))
            ]
        else:
            ways = list(explorer.successors(at))
        if not ways:
            break
        at = ways[choice // 6 % len(ways)][1]
    explorer.calm(at)
