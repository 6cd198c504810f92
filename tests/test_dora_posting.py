"""The report as a page, as a message and on its way; figures from a service that runs. Against servers on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tests.data.dora.month import FACTS
from tests.test_dora_report import CATALOG, kept, run, settings
from tests.test_dora_service import READING, SECRETS, serving
from typer.testing import CliRunner, Result

from serinus.cli import app
from serinus.cli.dora import REFUSED, UNREAD, UNSENT
from serinus.dora.catalog import Catalog
from serinus.dora.facts import ChangeSays, Fact, ReleaseSays
from serinus.dora.figures import Window
from serinus.dora.metrics import Book, measure
from serinus.dora.service.config import Config
from serinus.dora.service.figures import Figures, markdown
from serinus.dora.service.report import NAMED, html, message
from serinus.dora.service.source import TRIES as ASKED
from serinus.dora.service.webhook import TRIES

__all__ = ["settings"]  # a fixture

BERLIN = ZoneInfo("Europe/Berlin")
WEEK = Window.of_week(2026, 42, BERLIN)
EVIL = """<script>alert(1)</script>"'&<img src=x onerror=alert(1)>`*_|[a](javascript:x)<!channel> @channel\n# h"""


def hostile(number: int = 1) -> Figures:
    """Whose every name is markup."""
    at = datetime(2026, 10, 13, 9, tzinfo=UTC)
    facts = []
    for each in range(number):
        says = {
            "service": EVIL,
            "environment": EVIL,
            "exposed": at,
            "promoted": at,
            "outcome": "RolledBack",
            "commits": ["a" * 40],
        }
        says |= {"repository": "acme/shop", "commit": "a" * 40}
        known = {name: value for name, value in says.items() if name in ReleaseSays.model_fields}
        facts.append(Fact.of("test", str(each), at, f"{EVIL}{each}", ReleaseSays.model_validate(known)))
    change = {"repository": "acme/shop", "number": EVIL, "title": EVIL, "opened": at - timedelta(hours=1), "merged": at}
    change |= {"merge_commit": "a" * 40}
    known = {name: value for name, value in change.items() if name in ChangeSays.model_fields}
    facts.append(Fact.of("test", "change", at, EVIL, ChangeSays.model_validate(known)))
    return Figures.of(measure(Book.of(facts, Catalog()), WEEK))


def month() -> Figures:
    return Figures.of(measure(Book.of(FACTS, Config(catalog=CATALOG).catalog), WEEK))


class Seen(HTMLParser):
    """The elements of a page, what is within them, and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_with_hostile_names_has_no_other_markup_than_one_without() -> None:
    seen, known = Seen(html(hostile(), EVIL)), Seen(html(month(), "Delivery"))
    assert set(seen.tags) <= set(known.tags)
    assert {name for name, _ in seen.attributes} <= {name for name, _ in known.attributes} | {"class"}
    assert seen.text.count(EVIL) >= 3, "title, heading and ledger say the names as they are"
    assert not {"script", "img", "a", "link", "iframe"} & set(known.tags)
    assert not {name for name, _ in known.attributes} & {"src", "href", "style", "onclick"}


def test_a_page_says_what_the_markdown_says() -> None:
    page, text = Seen(html(month(), "Delivery of all services, week 42 of 2026")), markdown(month(), "x")
    assert "0.43 a day" in page.text
    assert "2026-10-12 up to 2026-10-19, Europe/Berlin." in page.text
    assert "rolled back after users had it" in page.text
    for line in text.splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.split("|")[1:-1] if cell.strip()]
            assert all(cell in page.text for cell in cells), line


def test_a_message_calls_nobody_and_is_short() -> None:
    said = message(hostile(NAMED + 3), EVIL)
    assert "<" not in said
    assert ">" not in said
    assert "@channel" not in "".join(said.split("`")[::2]), "outside of code"
    assert said.count("caught") + said.count("escaped") >= NAMED
    assert said.endswith("… and 3 more")
    title = message(month(), "Delivery").splitlines()
    assert title[0] == "*Delivery*"
    assert "• deployment frequency: *0.43 a day*, target 8 a day: missed (n 3)" in title


def test_figures_that_were_sent_are_the_figures() -> None:
    figures = month()
    back = Figures.model_validate_json(figures.model_dump_json())
    assert back == figures
    assert html(back, "x") == html(figures, "x")
    assert markdown(back, "x") == markdown(figures, "x")


# ---- posted ----


@dataclass
class Server:
    """Answers each request with the next status, the last one over and over, and keeps what it was sent."""

    statuses: list[int]
    answer: bytes = b""
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def answering(*statuses: int, answer: bytes = b"") -> Iterator[Server]:
    server = Server(list(statuses), answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.paths.append(self.path)
            server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self.send_response(server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0])
            self.send_header("Content-Length", str(len(server.answer)))
            self.end_headers()
            self.wfile.write(server.answer)

        do_GET = do_POST  # noqa: N815  # the library's name

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_port}/s3cret-path"
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        listening.shutdown()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are there, and short."""
    monkeypatch.setattr("serinus.events.sink._FIRST", 0.01)


@pytest.mark.usefixtures("quick")
def test_a_report_is_printed_and_posted_until_it_is_taken(settings: Path, tmp_path: Path) -> None:
    run(settings, "import", kept(tmp_path / "facts.jsonl", list(FACTS)))
    with answering(503, 429, 200) as hook:
        done = run(settings, "report", "--week", "2026-W42", "--post", hook.url)
    assert done.exit_code == 0, done.output
    assert "# Delivery of all services, week 42 of 2026" in done.stdout
    assert "posted to 127.0.0.1" in done.stderr
    assert len(hook.bodies) == 3
    (text,) = {json.loads(body)["text"] for body in hook.bodies}
    assert text.startswith("*Delivery of all services, week 42 of 2026*")


@pytest.mark.usefixtures("quick")
def test_a_report_can_be_posted_as_figures_to_an_address_from_the_environment(settings: Path) -> None:
    with answering(204) as hook:
        words = ["dora", "report", "--week", "2026-W42", "--post-as", "json", "--config", str(settings)]
        done = CliRunner().invoke(app, words, env={"SERINUS_DORA_REPORT_URL": hook.url})
    assert done.exit_code == 0, done.output
    assert Figures.model_validate_json(hook.bodies[0]).zone == "Europe/Berlin"
    assert hook.paths == ["/s3cret-path"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("statuses", "tries", "code", "words"),
    [
        ((500,), TRIES, UNSENT, "tried 4 times: HTTP 500"),
        ((404,), 1, REFUSED, "does not take the report: HTTP 404"),
        ((503, 410), 2, REFUSED, "HTTP 410"),
        ((302,), 1, REFUSED, "redirects are not followed"),
    ],
)
def test_a_report_that_is_not_taken_is_an_exit_code(
    settings: Path, statuses: tuple[int, ...], tries: int, code: int, words: str
) -> None:
    with answering(*statuses) as hook:
        done = run(settings, "report", "--week", "2026-W42", "--post", hook.url)
    assert (done.exit_code, len(hook.bodies)) == (code, tries), done.output
    assert words in done.stderr
    assert "s3cret" not in done.output, "the address is a secret"
    assert "# Delivery" in done.stdout, "it is printed all the same"


@pytest.mark.usefixtures("quick")
def test_a_webhook_that_is_not_there_is_an_exit_code(settings: Path) -> None:
    with answering(200) as hook:
        pass
    assert run(settings, "report", "--week", "2026-W42", "--post", hook.url).exit_code == UNSENT


@pytest.mark.parametrize("url", ["hooks.example/s3cret", "file:///s3cret", "http://", "http://[s3cret"])
def test_what_is_no_address_is_refused_and_not_shown(settings: Path, url: str) -> None:
    done = run(settings, "report", "--post", url)
    assert done.exit_code == 2
    assert "s3cret" not in done.output
    assert run(settings, "report", "--from", url).exit_code == 2


# ---- from a service ----


def test_a_service_gives_the_same_report_and_gate_as_its_database(settings: Path, tmp_path: Path) -> None:
    run(settings, "import", kept(tmp_path / "facts.jsonl", list(FACTS)))
    run(settings, "report")  # so that the service begins with all of it
    file = tmp_path / "token"
    file.write_text(READING + "\n")
    known = json.loads(settings.read_text())
    del known["database"]

    def remote(*words: str, **environment: str) -> Result:
        return CliRunner().invoke(app, ["dora", *words, "--from", address], env=environment)

    with serving(f"sqlite:///{tmp_path}/dora.db", tmp_path, SECRETS, **known) as (address, _):
        for words in (
            ("report", "--week", "2026-W42"),
            ("report", "--week", "2026-W42", "--format", "html", "--service", "checkout"),
            ("report", "--team", "shop"),
            ("gate", "--service", "checkout", "--days", "3650"),
        ):
            there = remote(*words, "--token-file", str(file))
            assert (there.exit_code, there.output) == _of(run(settings, *words))
        assert remote("gate", SERINUS_DORA_TOKEN=READING).exit_code == 0
        for words in (("report",), ("gate",)):
            refused = remote(*words, SERINUS_DORA_TOKEN="guessed")
            assert refused.exit_code == UNREAD
            assert "HTTP 401, this is not the secret for reading" in refused.stderr


def _of(done: Result) -> tuple[int, str]:
    return done.exit_code, done.output


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("status", "answer", "asked", "words"),
    [
        (503, b'{"detail": "the API server cannot be asked"}', ASKED, "HTTP 503, the API server cannot be asked"),
        (403, b'{"detail": "robin may not"}', 1, "HTTP 403, robin may not"),
        (302, b"", 1, "HTTP 302"),
        (200, b"<html>", 1, "no figures of this version"),
        (200, b'{"start": 7}', 1, "no figures of this version"),
    ],
)
def test_a_service_that_gives_no_figures_is_told_of(status: int, answer: bytes, asked: int, words: str) -> None:
    for command in (["report", "--week", "2026-W42"], ["gate"]):
        with answering(status, answer=answer) as service:
            done = CliRunner().invoke(app, ["dora", *command, "--from", service.url])
        assert done.exit_code == UNREAD, done.output
        assert words in done.stderr
        assert len(service.paths) == asked


@pytest.mark.parametrize(
    "write", [lambda path: None, lambda path: path.write_text("two\nlines"), lambda path: path.write_bytes(b"\xff")]
)
def test_a_file_that_holds_no_token_is_named(tmp_path: Path, write: Callable[[Path], object]) -> None:
    write(tmp_path / "token")
    done = CliRunner().invoke(app, ["dora", "gate", "--from", "http://dora.example", "--token-file", str(tmp_path / "token")])
    assert done.exit_code == 2
    assert "token" in done.output
