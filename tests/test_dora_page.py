"""The page of the weekly review in a real browser, with a real service behind it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pytest
from pydantic import TypeAdapter
from tests.browser import PATIENCE, Browser, browsing, programs
from tests.data.dora import fleet
from tests.test_dora_service import SECRET, ask, serving

from serinus.dora.catalog import Catalog
from serinus.dora.facts import Fact
from serinus.dora.figures import span
from serinus.dora.service.site import scopes
from serinus.dora.store.keeper import Keeper
from serinus.dora.store.log import Log
from serinus.dora.store.schema import connect

pytestmark = pytest.mark.skipif(programs() is None, reason="there is no Chromium with its driver on this machine: make browser")

BACK, TAB, ENTER, ESCAPE, LEFT, RIGHT = "\ue003", "\ue004", "\ue007", "\ue00c", "\ue012", "\ue014"
ZONE = ZoneInfo("UTC")
OPEN = {"SERINUS_DORA_SECRET_GENERIC": SECRET}
FIGURES = ("frequency", "lead", "failed", "recovery", "rework")


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    """As a person's is on a desk. Whatever its console has to complain of fails the test."""
    window.size(1440, 1000)
    window.media()
    window.complaints()
    yield window
    window.leave()
    assert window.complaints() == []


def filled(folder: Path, services: int, facts: list[Fact]) -> tuple[str, Catalog]:
    """A database that has all of it, and is caught up."""
    url, catalog = f"sqlite:///{folder}/dora.db", fleet.catalog(services)
    engine = connect(url)
    for start in range(0, len(facts), 20_000):
        Log(engine).append(facts[start : start + 20_000], datetime.now(UTC))
    Keeper(engine, catalog, ZONE).catch_up()
    engine.dispose()
    return url, catalog


@contextmanager
def site(
    browser: Browser, folder: Path, services: int = 1, facts: list[Fact] | None = None, secrets: Mapping[str, str] = OPEN
) -> Iterator[str]:
    url, catalog = filled(folder, services, facts or [])
    known = TypeAdapter(Catalog).dump_python(catalog, mode="json")
    with serving(url, folder, secrets, catalog=known) as (address, _):
        yield address
        browser.leave()


def recent(services: int, releases: int, weeks: int = 12, changes: bool = True) -> list[Fact]:
    return list(fleet.fleet(services, releases, datetime.now(UTC) - timedelta(seconds=90), weeks, changes=changes))


@pytest.fixture(scope="module")
def a_team(window: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Twelve services, with ten releases a day. Tests look at it, and change nothing."""
    with site(window, tmp_path_factory.mktemp("team"), 12, recent(12, 850)) as address:
        yield address


def visit(browser: Browser, address: str, path: str = "/") -> dict[str, Any]:
    """Opens it, and waits for the review. Returns what the service says of the same view."""
    browser.open(address + path)
    browser.one("#sentence")
    query = path.partition("?")[2].partition("#")[0]
    status, found = ask("GET", f"{address}/review?{query}")
    assert status == 200, found
    return dict(found)


# ---- numbers ----


def rounded(value: float, digits: int) -> str:
    text = str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
    return text.rstrip("0").rstrip(".") if "." in text else text


def often(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{int(rounded(value, 0)):,}" if value >= 100 else rounded(value, 2 if value < 10 else 1)


def seconds(value: float | None) -> str:
    return "–" if value is None else span(value)


def percent(value: float | None) -> str:
    return (
        "–" if value is None else f"{re.sub(r'[.]0$', '', str(Decimal(100 * value).quantize(Decimal('0.1'), ROUND_HALF_UP)))} %"
    )


def several(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def interval(share: Mapping[str, Any]) -> str:
    known = f"95 % interval {percent(share['low'])} to {percent(share['high'])}"
    return known if share["n"] else "no interval"


def expected(week: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the five cards say: the value, and the lines beside it."""
    durations = {
        name: [f"n {several(known['n'], what)}", f"p50 {seconds(known['median'])} · p90 {seconds(known['p90'])}"]
        for name, what in (("lead", "change"), ("recovery", "failure"))
        for known in [week[name]]
    }
    apart = [f"{name} {seconds(week[name]['median'])} (n {week[name]['n']:,})" for name in ("caught", "escaped")]
    rates = {
        name: [
            percent(week[name]["ratio"]),
            f"{week[name]['count']:,} of {several(week[name]['n'], 'release')}",
            interval(week[name]),
        ]
        for name in ("failed", "rework")
    }
    days = several(week["days"], "day")
    begun = [f"n {several(week['deployments'], 'deployment')} in {days}", f"on {week['deployment_days']} of {days}"]
    return rates | {
        "frequency": [often(week["per_day"]), *begun],
        "lead": [seconds(week["lead"]["median"]), *durations["lead"]],
        "recovery": [seconds(week["recovery"]["median"]), *durations["recovery"], " · ".join(apart)],
    }


def on_cards(browser: Browser) -> dict[str, list[str]]:
    script = """return Object.fromEntries(arguments[0].map((name) => [name, [...document.querySelectorAll(
        `#card-${name} .figure, #card-${name} .beside li`)].map((one) => one.textContent)]))"""
    return dict(browser.run(script, FIGURES))


def shows_what_the_service_says(browser: Browser, address: str, path: str = "/") -> dict[str, Any]:
    found = visit(browser, address, path)
    review = found["review"]
    assert on_cards(browser) == expected(review["week"])
    assert browser.text("#sentence") == review["sentence"]
    shown = {"frequency": often, "lead": seconds, "failed": percent, "recovery": seconds}
    for clause in review["contract"]:
        row = browser.text(f"#contract tr[data-key={clause['figure']}]")
        verdict = {True: "met", False: "missed", None: "cannot be told"}[clause["met"]]
        for words in (verdict, shown[clause["figure"]](clause["value"]), f"{clause['n']:,}"):
            assert words in row
        judged = browser.text(f"#card-{clause['figure']} .judged")
        assert verdict in judged
        assert f"4 weeks: {shown[clause['figure']](clause['value'])}, n {clause['n']:,}" in judged
    return found


def test_every_number_on_the_cards_is_what_the_service_says(browser: Browser, a_team: str) -> None:
    found = shows_what_the_service_says(browser, a_team)
    before = found["review"]["lines"][-2]["week"]
    shows_what_the_service_says(browser, a_team, f"/?week={before}")
    shows_what_the_service_says(browser, a_team, f"/?week={before}&service=shop%2Fcheckout")
    shows_what_the_service_says(browser, a_team, f"/?week={before}&team=platform")
    assert "shop" not in browser.text("#services tbody")


def test_of_nothing_it_says_what_to_do_next(browser: Browser, tmp_path: Path) -> None:
    with site(browser, tmp_path) as address:
        shows_what_the_service_says(browser, address)
        assert "Nothing has been told yet" in browser.text("#main")
        assert "/ingest/cdevents" in browser.text("#main .notice")
        assert browser.text("#age") == "no fact yet"
        lines = browser.run(
            "return [...document.querySelectorAll('.card')].map((one) => one.querySelectorAll('.trend, .alone').length)"
        )
        assert lines[1:] == [0, 0, 0, 0], "of nothing there is no line, and none at 0"


def test_one_release_is_enough(browser: Browser, tmp_path: Path) -> None:
    with site(browser, tmp_path, 1, recent(1, 1, weeks=1)) as address:
        found = shows_what_the_service_says(browser, address)
        assert found["freshness"]["facts"] > 0
        assert len(browser.all("#services tbody tr")) == 1


def many(browser: Browser, folder: Path, services: int, releases: int) -> float:
    """Seconds until the page is there."""
    with site(browser, folder, services, recent(services, releases, changes=False)) as address:
        ask("GET", f"{address}/review")
        began = time.monotonic()
        browser.open(address)
        browser.one("#sentence")
        took = time.monotonic() - began
        found = shows_what_the_service_says(browser, address)
        assert found["more"], "more releases than a line of time can have"
        assert len(browser.all("#services tbody tr")) == 12
        filter_ = browser.one("#filter")
        filter_.send_keys("mail-3")
        browser.until(lambda: len(browser.all("#services tbody tr")) < 12, "the filter does nothing")
        assert "mail-3" in browser.text("#services tbody")
        filter_.send_keys(BACK * len("mail-3"))
        browser.one("[data-do=all-services]").click()
        shown = browser.until(
            lambda: len(browser.all("#services tbody tr")) > 12 and len(browser.all("#services tbody tr")), "all"
        )
        assert shown == services
        browser.open(f"{address}/#events/frequency/{found['review']['lines'][-2]['monday']}/{found['today']}")
        browser.until(lambda: len(browser.all("#events li")) == 200, "keys are listed, and not all", 4 * PATIENCE)
        assert "200 of " in browser.text("#events-body")
    return took


def test_ten_thousand_releases(browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    took = many(browser, tmp_path, 60, 10_000)
    with capsys.disabled():
        sys.stderr.write(f"\n10,000 releases: the page is there in {took:.2f} s\n")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_hundred_thousand_releases(browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    took = many(browser, tmp_path, 500, 100_000)
    with capsys.disabled():
        sys.stderr.write(f"\n100,000 releases: the page is there in {took:.2f} s\n")


def test_what_can_be_chosen_comes_from_what_there_is(a_team: str) -> None:
    status, found = ask("GET", f"{a_team}/scopes")
    assert (status, len(found["services"]), found["teams"], found["environments"], found["more"]) == (
        200,
        12,
        ["money", "platform", "shop"],
        ["production"],
        False,
    )


def test_what_can_be_chosen_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, catalog = filled(tmp_path, 12, recent(12, 60, changes=False))
    monkeypatch.setattr("serinus.dora.service.site.MOST", 5)
    engine = connect(url)
    found = scopes(engine, catalog, datetime.now(UTC))
    engine.dispose()
    assert (len(found.services), found.more) == (5, True)


# ---- live ----


def told(address: str, key: str, **says: Any) -> None:
    now = datetime.now(UTC) - timedelta(seconds=1)
    moment = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    release = {"key": key, "service": "shop/checkout", "environment": "production", "exposed": moment, "promoted": moment, **says}
    body = json.dumps({"id": f"{key}-{time.monotonic_ns()}", "at": moment, "release": release}).encode()
    status, answer = ask("POST", f"{address}/ingest/generic", body, {"Authorization": f"Bearer {SECRET}"})
    assert status == 202, answer


def deployments(browser: Browser) -> str:
    return browser.text("#card-frequency [data-of=n]")


def test_what_comes_in_is_on_the_page_within_a_second_and_disturbs_nothing(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with site(browser, tmp_path, 12, recent(12, 120)) as address:
        visit(browser, address)
        browser.until(lambda: "on" in (browser.one("#live").get_attribute("class") or "").split(), "it is not live")
        browser.one("#releases-table summary").click()
        filter_ = browser.one("#filter")
        filter_.send_keys("e")
        browser.run("scrollTo(0, 900); document.querySelector('#filter').setSelectionRange(1, 1)")
        node, scrolled = filter_.id, browser.run("return scrollY")
        took = []
        for number in range(5):
            before = deployments(browser)
            began = time.monotonic()
            told(address, f"new{number}")
            browser.until(lambda before=before: deployments(browser) != before, "the page does not follow")  # type: ignore[misc]
            took.append(time.monotonic() - began)
        assert browser.focused().id == node, "the focus stays"
        assert browser.run("return document.querySelector('#filter').value") == "e"
        assert browser.run("return document.querySelector('#releases-table').open"), "what was open stays open"
        assert abs(browser.run("return scrollY") - scrolled) < 200, "the reader stays where they were"
        assert on_cards(browser) == expected(ask("GET", f"{address}/review")[1]["review"]["week"])
    with capsys.disabled():
        sys.stderr.write(f"\nfrom a fact to the page: {', '.join(f'{t:.2f}' for t in took)} s\n")
    assert min(took) < 5, "a second, when nothing else runs"


def test_what_is_not_of_the_scope_is_not_asked_for(browser: Browser, tmp_path: Path) -> None:
    with site(browser, tmp_path, 12, recent(12, 120)) as address:
        visit(browser, address, "/?service=money%2Fpay")
        browser.until(lambda: browser.text("#live").endswith("live") and "not" not in browser.text("#live"), "it is not live")
        time.sleep(1)  # what it asks for as it becomes live
        count = "return performance.getEntriesByType('resource').filter((one) => one.name.includes('/review')).length"
        asked = browser.run(count)
        told(address, "other")
        time.sleep(2)  # twice what it takes to follow
        assert browser.run(count) == asked
        told(address, "mine", service="money/pay")
        browser.until(lambda: browser.run(count) > asked, "it does not follow")
        for number in range(20):
            told(address, f"mine{number}", service="money/pay")
        browser.until(lambda: "mine" in browser.text("#releases-table"), "it does not follow")
        gaps = browser.run(
            """const all = performance.getEntriesByType('resource').filter((one) => one.name.includes('/review'));
            return all.slice(1).map((one, place) => one.startTime - all[place].startTime)"""
        )
        assert min(gaps[1:], default=500) >= 490, "at most every half second"


def test_it_comes_back_by_itself(browser: Browser, tmp_path: Path) -> None:
    url, _ = filled(tmp_path, 1, recent(1, 5))
    with serving(url, tmp_path, OPEN) as (address, _):
        visit(browser, address)
        port = address.rpartition(":")[2]
    browser.until(lambda: "not live" in browser.text("#live"), "it does not say so")
    with serving(url, tmp_path, OPEN, port=int(port)) as (address, _):
        browser.until(lambda: "not" not in browser.text("#live"), "it does not come back", 2 * PATIENCE)
        before = deployments(browser)
        told(address, "back")
        browser.until(lambda: deployments(browser) != before, "it does not follow")
        browser.complaints()  # of the time in between
        browser.leave()


# ---- a person ----


def test_all_of_it_by_keys(browser: Browser, tmp_path: Path) -> None:
    with site(browser, tmp_path, 12, recent(12, 850)) as address:
        found = visit(browser, address)
        weeks = [line["week"] for line in found["review"]["lines"]]
        browser.keys(RIGHT)
        assert "week=" not in browser.driver.current_url, "there is no week after this one"
        browser.keys(LEFT)
        browser.says(".which", weeks[-2])
        browser.until(lambda: not browser.all("main[aria-busy]"), "it does not arrive")
        assert f"week={weeks[-2]}" in browser.driver.current_url
        assert on_cards(browser) == expected(ask("GET", f"{address}/review?week={weeks[-2]}")[1]["review"]["week"])
        browser.keys("?")
        browser.until(lambda: browser.run("return document.querySelector('#keys').open"), "no list of keys")
        browser.keys(ESCAPE)
        browser.keys("/")
        assert browser.focused().get_attribute("id") == "filter"
        browser.keys("pay")
        browser.until(lambda: len(browser.all("#services tbody tr")) == 1, "the filter does nothing")
        until_focused(browser, "#services tbody th a")
        browser.keys(ENTER)
        browser.until(lambda: "service=money%2Fpay" in browser.driver.current_url, "the scope is not set")
        browser.until(lambda: not browser.all("main[aria-busy]"), "it does not arrive")

        browser.driver.get(f"{address}/?week={weeks[-2]}")
        browser.one("#sentence")
        until_focused(browser, "#card-failed .way a")
        browser.keys(ENTER)
        browser.says("#events-body", "Failed releases")
        failed = ask(
            "GET",
            f"{address}/figures?start={found['review']['lines'][-2]['monday']}&end={found['review']['lines'][-1]['monday']}",
        )
        keys = failed[1]["failure_rate"]["rate"]["keys"]
        first = browser.run(
            "return [...document.querySelector('#events-body ol').querySelectorAll('.key')].map((one) => one.textContent)"
        )
        assert sorted(first) == sorted(keys)
        browser.keys(ESCAPE)
        browser.until(lambda: "#events" not in browser.driver.current_url, "it does not close")
        assert browser.run("return document.activeElement.closest('#card-failed') !== null"), "the focus returns"

        before = browser.text("#card-failed .figure"), browser.text("#card-failed [data-of=n]")
        until_focused(browser, f"#failures tbody [data-about='release/{keys[-1]}']")
        browser.keys(ENTER)
        browser.until(lambda: browser.run("return document.querySelector('#mark').open"), "no form")
        until_focused(browser, "#mark-reason")
        browser.keys("the load test broke it", TAB, ENTER)
        browser.until(lambda: not browser.run("return document.querySelector('#mark').open"), "it is not sent")
        browser.until(lambda: browser.text("#card-failed [data-of=n]") != before[1], "the word changes nothing")


def until_focused(browser: Browser, selector: str, most: int = 400) -> None:
    """Tab by tab, as a person without a mouse. Wherever the focus is, it can be seen."""
    for _ in range(most):
        browser.keys(TAB)
        at, outlined = browser.run(
            """const at = document.activeElement, style = getComputedStyle(at);
            return [at.matches(arguments[0]), at === document.body || style.outlineStyle !== 'none']""",
            selector,
        )
        assert outlined, f"{browser.focused().get_attribute('outerHTML')[:200]} has the focus, and shows nothing"
        if at:
            return
    raise AssertionError(f"{selector} cannot be reached")


def test_a_refusal_is_shown_as_it_is(browser: Browser, a_team: str) -> None:
    visit(browser, a_team)
    browser.one("#failures tbody button").click()
    browser.run("document.querySelector('#mark-reason').value = ' '; document.querySelector('#mark-reason').required = false")
    browser.run("const one = document.querySelector('[name=verdict]:checked'); one.value = 'nonsense'")
    browser.one("#mark-form button[type=submit]").click()
    browser.says("#mark-refused", "verdict")
    assert "422" in "".join(browser.complaints()), "the browser's own word of it"
    browser.keys(ESCAPE)


def test_whoever_may_not_read_is_asked_who_they_are(browser: Browser, tmp_path: Path) -> None:
    with site(browser, tmp_path, 1, recent(1, 5), OPEN | {"SERINUS_DORA_SECRET_READING": "r3ading"}) as address:
        browser.open(address)
        field = browser.one("#token")
        assert "needs Authorization" in browser.text("#login .reason")
        field.send_keys("guessed", ENTER)
        browser.says("#login-refused", "not the secret for reading")
        field = browser.one("#token")
        field.clear()
        field.send_keys("r3ading", ENTER)
        browser.one("#sentence")
        browser.until(lambda: "not" not in browser.text("#live"), "the stream is not let in")
        browser.open(address)
        browser.one("#sentence")
        browser.one("[data-do=logout]").click()
        browser.one("#token")
        complaints = browser.complaints()
        browser.run("sessionStorage.clear()")
    assert all(re.search(r"status of (401|404)|ERR_", line) for line in complaints), complaints


# ---- how it looks ----


def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser: Browser, a_team: str) -> None:
    browser.size(360, 740)
    visit(browser, a_team)
    for details in browser.all("details summary"):
        browser.run("arguments[0].click()", details)
    browser.until(lambda: len(browser.all("details[open]")) == len(browser.all("details")), "they do not open")
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    texts = browser.run(
        """return [...document.querySelectorAll('main svg text')].filter((one) => one.getBoundingClientRect().right > 362
        || one.getBoundingClientRect().left < -1).map((one) => one.textContent)"""
    )
    assert texts == []
    small = "return [...document.querySelectorAll('main svg text')].map((one) => one.getBoundingClientRect().height)"
    assert min(browser.run(small)) >= 9, "it can be read"


def test_it_prints_on_a_few_sheets_with_its_address(browser: Browser, a_team: str) -> None:
    visit(browser, a_team, "/?team=shop")
    browser.run("document.querySelector('#days-table').open = true")
    printed = base64.b64decode(browser.cdp("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])
    assert 1 <= len(re.findall(rb"/Type\s*/Page[^s]", printed)) <= 3
    browser.until(lambda: browser.run("return document.querySelector('#days-table').open"), "it is as it was, on the screen")
    browser.media("print")
    seen = "return [...document.querySelectorAll(arguments[0])].some((one) => one.checkVisibility())"
    for hidden in ("button", "dialog", "select", "#filter", "details"):
        assert not browser.run(seen, hidden), f"{hidden} is printed"
    assert browser.run(seen, ".address")
    assert "team=shop" in browser.text(".address")
    colours = browser.run("const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]")
    assert colours == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]


_CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
};
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
const ground = (one) => {
  for (let at = one; at; at = at.parentElement) {
    const c = rgba(getComputedStyle(at).backgroundColor);
    if (c[3] > 0.99) return c;
  }
  return rgba('white');
};
const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const one = walk.currentNode.parentElement;
  if (!walk.currentNode.nodeValue.trim() || !one.checkVisibility()) continue;
  if (one.closest('title, option, .off, [aria-hidden=true]')) continue;
  const style = getComputedStyle(one), ink = rgba(one.closest('svg') ? style.fill : style.color);
  const [a, b] = [light(ink), light(ground(one))].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), one.outerHTML.slice(0, 60) + ' ' + walk.currentNode.nodeValue.slice(0, 40)]);
}
return found.sort((x, y) => x[0] - y[0]);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_in(browser: Browser, a_team: str, scheme: str) -> None:
    browser.media("", scheme)
    visit(browser, a_team)
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (int(ground[4:].split(",")[0]) > 128) == (scheme == "light")
    found = browser.run(_CONTRAST)
    assert len(found) > 300
    assert found[0][0] >= 4.5, found[:5]


# ---- what others wrote ----

EVIL = ('<img src=x onerror="window.__pwned=1">', '"><script>window.__pwned=1</script>', "javascript:window.__pwned=1")


def test_what_others_wrote_is_only_ever_text(browser: Browser, tmp_path: Path) -> None:
    now = datetime.now(UTC) - timedelta(minutes=30)
    facts = []
    for number, word in enumerate(EVIL):
        moments = {"requested": now, "exposed": now, "promoted": now + timedelta(minutes=5)}
        says = {
            "service": word,
            "environment": word,
            "artifact": f"{word}:{word}",
            "commit": fleet.hashed(number),
            "repository": "a/b",
        }
        facts.append(fleet._fact("x", f"r{word}", now, fleet.ReleaseSays(**says, **moments)))
        change = fleet.ChangeSays(
            repository="a/b",
            title=word,
            url="javascript:window.__pwned=1",
            merge_commit=says["commit"],
            opened=now - timedelta(hours=1),
        )
        facts.append(fleet._fact("x", f"c{word}", now, change))
        began = now + timedelta(minutes=6)
        incident = fleet.IncidentSays(
            service=word,
            environment=word,
            title=word,
            url="javascript:window.__pwned=1",
            severity=word,
            began=began,
            detected=began,
        )
        facts.append(fleet._fact("x", f"i{word}", now, incident))
    url, _ = filled(tmp_path, 0, facts)
    with serving(url, tmp_path, OPEN) as (address, _):
        for word in EVIL:
            said = {"about": f"release/r{word}", "verdict": "failed", "reason": word}
            assert ask("POST", f"{address}/marks", json.dumps(said).encode())[0] == 202
        browser.open(address)
        browser.one("#sentence")
        browser.until(lambda: len(browser.all("#failures tbody tr")) == 3, "three failures")
        for selector in ("#services", "#failures", "#slowest", "#incidents-table", "#releases-table", "#scope-service"):
            for word in EVIL:
                assert word in browser.text(selector), f"{selector} does not show {word} as it is"
        for figure in ("lead", "failed", "rework", "unlinked"):
            today = date.fromisoformat(str(ask("GET", f"{address}/review")[1]["today"]))
            window = f"{today - timedelta(days=2)}/{today + timedelta(days=1)}"
            browser.open(f"{address}/#events/{figure}/{window}")
            browser.until(lambda: browser.all("#events-body ol"), "no events")
            harmless(browser)
        browser.open(f"{address}/?service={'%3Cimg%20src%3Dx%20onerror%3D%22window.__pwned%3D1%22%3E'}&team=%22%3E%3Cscript%3E")
        browser.one("#sentence")
        harmless(browser)
        browser.one("#head [data-do=keys]").click()
        browser.keys(ESCAPE)
        harmless(browser)
        browser.leave()


def harmless(browser: Browser) -> None:
    assert browser.run("return window.__pwned === undefined")
    assert browser.all("img, iframe, object, embed, body script, [onerror], [onclick], [href^='javascript:' i]") == []


def test_only_its_own_files_are_let_in(a_team: str) -> None:
    async def asked() -> list[tuple[int, Mapping[str, str], str]]:
        found = []
        async with aiohttp.ClientSession() as session:
            for path in ("/", "/static/main.js", "/static/page.css", "/static/..%2f..%2fapp.py", "/static/site.py"):
                async with session.get(a_team + path) as answer:
                    found.append((answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.text()))
            async with session.get(f"{a_team}/", headers={"If-None-Match": found[0][1]["etag"]}) as answer:
                found.append((answer.status, {}, ""))
        return found

    found = asyncio.run(asked())
    assert [status for status, *_ in found] == [200, 200, 200, 404, 404, 304]
    for _, headers, text in found[:3]:
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
        assert "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\bstyle=|https?://(?!www\.w3\.org)", text
        )


def test_no_script_makes_elements_of_text() -> None:
    """Wherever text of others could become markup: there is no such place."""
    folder = Path(sys.modules["serinus.dora.service.site"].__file__ or "").parent / "web"
    files = sorted(folder.iterdir())
    assert len(files) > 8
    for file in files:
        found = re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|Function\(|srcdoc=", file.read_text())
        assert not found, f"{file.name} has {found and found[0]}"


# ---- for everybody ----

_WRONG = """
const wrong = [], seen = (one) => one.checkVisibility();
const named = (one) => (one.getAttribute('aria-label') || one.textContent || '').trim()
  || one.labels?.length || one.getAttribute('aria-labelledby');
if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');
if (!document.documentElement.lang) wrong.push('no language');
let before = 0;
for (const one of document.querySelectorAll('body > :not(dialog) :is(h1,h2,h3,h4)')) {
  const level = Number(one.tagName[1]);
  if (level > before + 1) wrong.push(`h${level} after h${before}: ${one.textContent}`);
  before = level;
}
for (const name of ['header', 'main', 'footer', 'nav']) if (!document.querySelector(name)) wrong.push(`no ${name}`);
for (const one of document.querySelectorAll('input, select, textarea')) {
  if (!one.labels?.length) wrong.push(`no label: ${one.id}`);
}
for (const one of document.querySelectorAll('a, button, summary')) {
  if (!named(one)) wrong.push(`no name: ${one.outerHTML.slice(0, 80)}`);
  if (one.tagName === 'A' && !one.hasAttribute('href')) wrong.push(`leads nowhere: ${one.textContent}`);
}
for (const one of document.querySelectorAll('img')) if (!one.hasAttribute('alt')) wrong.push('an image without alt');
for (const one of document.querySelectorAll('svg')) {
  const worded = one.getAttribute('role') === 'img' && one.getAttribute('aria-label');
  if (one.getAttribute('aria-hidden') !== 'true' && !worded) wrong.push('a picture without words');
}
for (const one of document.querySelectorAll('table')) {
  for (const head of one.querySelectorAll('th')) if (!head.scope) wrong.push('a header without scope');
  for (const head of one.querySelectorAll('thead th')) if (!head.textContent.trim()) wrong.push('a header without words');
  if (!one.querySelector('thead th')) wrong.push('a table without headers');
}
for (const one of document.querySelectorAll('section, dialog, article')) {
  const name = document.getElementById(one.getAttribute('aria-labelledby'));
  if (!name?.textContent.trim()) wrong.push(`no name: ${one.id}`);
}
const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
for (const id of new Set(ids)) if (ids.filter((one) => one === id).length > 1) wrong.push(`twice: ${id}`);
for (const one of document.querySelectorAll('[tabindex]')) if (one.tabIndex > 0) wrong.push('an order of its own');
return wrong;
"""


def test_everybody_can_use_it(browser: Browser, a_team: str) -> None:
    found = visit(browser, a_team)
    assert browser.run(_WRONG) == []
    visit(browser, a_team, f"/?week={found['review']['lines'][-2]['week']}")
    assert browser.run(_WRONG) == []
    tree = browser.cdp("Accessibility.getFullAXTree")["nodes"]
    images = [node["name"]["value"] for node in tree if node.get("role", {}).get("value") == "image"]
    assert any("twelve weeks" in name and "target" in name for name in images)


def test_a_click_on_a_service_makes_it_the_scope_and_back_returns(browser: Browser, a_team: str) -> None:
    visit(browser, a_team)
    first = browser.text("#services tbody th")
    browser.one("#services tbody th a").click()
    browser.until(lambda: browser.run("return document.querySelector('#scope-service').value") == first, "the scope is not set")
    browser.until(lambda: len(browser.all("#services tbody tr")) == 1, "it is not of that service")
    browser.driver.back()
    browser.until(lambda: len(browser.all("#services tbody tr")) == 12, "back does not return")
    assert browser.run("return document.querySelector('#scope-service').value") == ""


def test_what_cannot_be_shown_says_why(browser: Browser, a_team: str) -> None:
    browser.open(f"{a_team}/?week=2026-W99")
    browser.says("#problem", "week")
    assert browser.all("#problem button")
    assert "422" in "".join(browser.complaints())
