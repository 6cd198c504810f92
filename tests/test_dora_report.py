"""The report, the gate and the import, as commands."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.data.dora.month import FACTS
from tests.model import release
from typer.testing import CliRunner, Result

from serinus.api.release import Release, Times
from serinus.cli import app
from serinus.dora.facts import Fact, ReleaseSays
from serinus.dora.figures import span
from serinus.dora.history import of_release

CATALOG = {
    "services": {
        "checkout": {"team": "shop", "repository": "acme/shop", "paths": ["services/checkout", "libs/money"]},
        "search": {"team": "shop", "repository": "acme/shop", "paths": ["services/search"]},
        "pay": {"team": "pay", "repository": "https://github.com/acme/pay"},
    },
    "production": ["production"],
}


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Of an empty store."""
    known = {"database": f"sqlite:///{tmp_path}/dora.db", "zone": "Europe/Berlin", "catalog": CATALOG}
    path = tmp_path / "dora.yaml"
    path.write_text(json.dumps(known))
    return path


def run(settings: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(app, ["dora", *map(str, words), "--config", str(settings)])


def kept(path: Path, facts: list[Fact]) -> Path:
    path.write_text("".join(json.dumps(fact.dump()) + "\n" for fact in facts))
    return path


def test_the_report_of_a_week(settings: Path, tmp_path: Path) -> None:
    path = kept(tmp_path / "facts.jsonl", list(FACTS))
    for _ in range(2):
        assert run(settings, "import", path).output == f"{path}: {len(FACTS)} facts\n"
    told = run(settings, "report", "--week", "2026-W42")
    assert told.exit_code == 0, told.output
    lines = told.output.splitlines()
    assert lines[0] == "# Delivery of all services, week 42 of 2026"
    assert lines[2] == "2026-10-12 up to 2026-10-19, Europe/Berlin."
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    figures = {row[0]: row[1:] for row in rows}
    assert figures["deployment frequency"][:4] == ["0.43 a day", "8 a day", "missed", "3"]
    assert "95 % interval" in figures["change failure rate"][4]
    assert any(line.startswith("- `c8`: rolled back after users had it; caught, recovered in 40 s") for line in lines)


def test_an_empty_week_says_that_there_is_nothing_to_say(settings: Path) -> None:
    lines = run(settings, "report", "--week", "2026-W01").output.splitlines()
    assert "| change failure rate | none | 2% | cannot be told | 0 |  |" in lines
    assert "| lead time for changes | none | 2 h 30 min | cannot be told | 0 | 0 changes undated, 0 releases untracked |" in lines


@pytest.mark.parametrize("week", ["2026-W54", "2026-47", "today"])
def test_a_week_that_there_is_not_is_refused(settings: Path, week: str) -> None:
    assert run(settings, "report", "--week", week).exit_code == 2


@pytest.mark.parametrize(("failed", "of", "code"), [(0, 0, 0), (0, 20, 0), (1, 20, 0), (5, 20, 1)])
def test_the_gate_closes_when_it_is_sure(settings: Path, tmp_path: Path, failed: int, of: int, code: int) -> None:
    now = datetime.now(UTC) - timedelta(hours=1)

    def one(number: int) -> Fact:
        outcome = "RolledBack" if number < failed else "Promoted"
        says = {"service": "pay", "environment": "production", "exposed": now, "promoted": now, "outcome": outcome}
        return Fact.of("test", str(number), now, f"r{number}", ReleaseSays.model_validate(says))

    run(settings, "import", kept(tmp_path / "facts.jsonl", [one(number) for number in range(of)]))
    done = run(settings, "gate", "--max-cfr", "2%", "--service", "pay")
    assert done.exit_code == code, done.output
    assert (f"{failed} of {of} releases failed" if of else "no release") in done.output


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "no object"),
        ('{"about": "weather"}', "no facts about 'weather'"),
        ('{"about": "release", "says": {}}', "source: Field required"),
    ],
)
def test_a_file_that_is_no_facts_is_named_with_its_line(settings: Path, tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(f"\n{line}\n")
    done = run(settings, "import", path)
    assert done.exit_code == 1
    assert "wrong.jsonl, line 2" in done.output
    assert reason in done.output
    assert run(settings, "import", tmp_path / "none.jsonl").exit_code == 1


def test_a_release_is_imported_as_the_very_events_that_were_sent() -> None:
    known: Release = release(images=["shop:2"], commit="a" * 40, repository="https://github.com/acme/shop")
    at = [known.spec.requested_at + timedelta(seconds=seconds) for seconds in (5, 20, 21)]
    known.status.outcome, known.status.stage = "RolledBack", "Ended"
    known.status.times = Times(first_exposed=at[0], decided=at[1], zero_verified=at[2])
    facts = list(of_release(known, "prod"))
    assert facts == list(of_release(known, "prod"))
    assert {fact.key for fact in facts} == {known.metadata.uid}
    says = facts[-1].says
    assert isinstance(says, ReleaseSays)
    assert (says.service, says.outcome, says.exposed, says.returned) == ("shop/web", "RolledBack", at[0], at[2])


def test_without_its_packages_it_says_how_to_get_them(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serinus.cli.dora.find_spec", lambda name: None)
    done = run(settings, "report")
    assert done.exit_code == 1
    assert "serinus[dora]" in done.output


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "none"), (0, "0 s"), (59.6, "1 min"), (60, "1 min"), (9000, "2 h 30 min"), (90000, "1 d 1 h")]
)
def test_spans_for_people(seconds: float | None, text: str) -> None:
    assert span(seconds) == text
