"""Who may read and mark: what the API server says, for as long as it counts; sessions of browsers; nobody else."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import aiohttp
import pytest
import uvicorn
from fastapi import Depends, FastAPI
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException
from tests.reviewer import OWN, Reviewer, reviewing

from serinus.dora.intake import Refused
from serinus.dora.service.app import _refused
from serinus.dora.service.config import Config
from serinus.dora.service.entrance import (
    COOKIE,
    SECRET_HOLDER,
    SESSION,
    SESSIONS,
    THIS_MACHINE,
    Entrance,
    guard,
    may_read,
    may_write,
    still_reads,
)
from serinus.dora.service.reviews import MOST, NO, YES, Reviews
from serinus.dora.service.rights import LONGEST, Denied, Kept, from_elsewhere, name_of, user_of
from serinus.kube import Kube

JSON = {"Content-Type": "application/json"}


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def connected(url: str, token: str = OWN) -> Callable[[], Awaitable[Kube]]:
    async def connect() -> Kube:
        configuration = Configuration(host=url, api_key={"BearerToken": token}, api_key_prefix={"BearerToken": "Bearer"})
        return Kube(ApiClient(configuration))

    return connect


@dataclass
class World:
    """The service's entrance, with something to read and something to change behind it."""

    address: str
    reviewer: Reviewer
    clock: Clock
    session: aiohttp.ClientSession
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, token: str = "", body: Any = None, **headers: str) -> tuple[int, Any]:
        known = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            known["Authorization"] = f"Bearer {token}"
        if self.cookies:
            known["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(method, self.address + path, data=data, headers=known, allow_redirects=False) as answer:
            self.cookies |= {name: morsel.value for name, morsel in answer.cookies.items()}
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text

    async def log_in(self, whose: str = "m") -> None:
        assert (await self.ask("POST", "/login", body={"token": whose}, Content_Type="application/json"))[0] == 200


async def read(name: Annotated[str, Depends(may_read)]) -> str:
    return name


async def write(name: Annotated[str, Depends(may_write)]) -> str:
    return name


@asynccontextmanager
async def world(config: Config | None = None, token: str = OWN) -> AsyncIterator[World]:
    config, clock, app = config or Config(kubernetes=True), Clock(), FastAPI()
    async with reviewing() as reviewer, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        reviews = Reviews(config.audiences, clock, connected(reviewer.url, token)) if config.kubernetes else None
        entrance = Entrance(config, clock, reviews)
        guard(app, entrance)
        app.add_exception_handler(Refused, _refused)
        app.get("/read")(read)
        app.post("/write")(write)
        app.get("/still")(still_reads)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            task = asyncio.ensure_future(server.serve([listening]))
            try:
                yield World(f"http://127.0.0.1:{listening.getsockname()[1]}", reviewer, clock, session)
            finally:
                server.should_exit = True
                await task
                await entrance.close()


def within(scenario: Callable[[World], Awaitable[None]], config: Config | None = None, token: str = OWN) -> None:
    async def run() -> None:
        async with world(config, token) as there:
            await scenario(there)

    asyncio.run(run())


# ---- tokens ----


def test_a_token_with_the_right_opens_and_its_name_is_the_api_servers() -> None:
    async def scenario(there: World) -> None:
        assert await there.ask("GET", "/read", "m") == (200, "mona")
        assert await there.ask("POST", "/write", "m", X_User="somebody else") == (200, "mona")
        assert await there.ask("GET", "/read", "r") == (200, "robin")

    within(scenario, Config(kubernetes=True, user_header="X-User"))


@pytest.mark.parametrize(
    ("method", "token", "status", "words"),
    [
        ("GET", "", 401, "kubectl create token"),
        ("GET", "guessed", 401, "does not know this token"),
        ("GET", "n", 403, "nobody-in-particular may not get deliveries.serinus.dev: the chart's ClusterRole …-dora-reader"),
        ("POST", "r", 403, "robin may not update deliveries.serinus.dev: the chart's ClusterRole …-dora-editor"),
        ("POST", "", 401, "Authorization"),
        ("GET", "x" * (LONGEST + 1), 401, "no token of Kubernetes"),
    ],
)
def test_who_is_not_let_in_is_told_why(method: str, token: str, status: int, words: str) -> None:
    async def scenario(there: World) -> None:
        given, said = await there.ask(method, "/read" if method == "GET" else "/write", token)
        assert given == status
        assert words in said["detail"]

    within(scenario)


def test_an_api_server_that_is_away_lets_nobody_in_and_is_asked_again_at_once() -> None:
    async def scenario(there: World) -> None:
        there.reviewer.away = True
        status, said = await there.ask("GET", "/read", "m")
        assert (status, "etcd is away" in said["detail"]) == (503, True)
        there.reviewer.away = False
        assert (await there.ask("GET", "/read", "m"))[0] == 200

    within(scenario)


def test_a_service_that_may_not_ask_lets_nobody_in() -> None:
    async def scenario(there: World) -> None:
        status, said = await there.ask("GET", "/read", "m")
        assert (status, "you may not ask that" in said["detail"]) == (503, True)

    within(scenario, token="another's")


def test_where_there_is_no_api_server_nobody_is_let_in() -> None:
    async def nowhere() -> Kube:
        raise ConfigException("no kubeconfig")

    async def refused(connect: Callable[[], Awaitable[Kube]]) -> Denied:
        reviews = Reviews(connected=connect)
        with pytest.raises(Denied) as no:
            await reviews.name("m", "get")
        await reviews.close()
        return no.value

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for connect, words in ((nowhere, "no kubeconfig"), (connected(f"http://127.0.0.1:{port}"), "no answer from the API server")):
        no = asyncio.run(refused(connect))
        assert (no.status, words in no.reason) == (503, True)


def test_answers_count_no_longer_than_they_say() -> None:
    async def scenario(there: World) -> None:
        async def asked(token: str) -> tuple[int, int]:
            before = len(there.reviewer.asked)
            return (await there.ask("GET", "/read", token))[0], len(there.reviewer.asked) - before

        assert await asked("m") == (200, 2)
        assert await asked("n") == (403, 2)
        assert await asked("guessed") == (401, 1)
        there.reviewer.rights = {"nobody-in-particular": {"get"}}
        there.clock.now += NO - 0.01
        assert [await asked(token) for token in ("m", "n", "guessed")] == [(200, 0), (403, 0), (401, 0)]
        there.clock.now += 0.01
        assert [await asked(token) for token in ("m", "n", "guessed")] == [(200, 0), (200, 2), (401, 1)]
        there.clock.now += YES - NO - 0.01
        assert await asked("m") == (200, 0)
        there.clock.now += 0.01
        assert await asked("m") == (403, 2)
        there.reviewer.away = True
        there.clock.now += YES
        assert await asked("n") == (503, 0), "an old yes is no yes"

    within(scenario)


def test_a_yes_to_reading_is_none_to_changing() -> None:
    async def scenario(there: World) -> None:
        assert (await there.ask("GET", "/read", "r"))[0] == 200
        assert (await there.ask("POST", "/write", "r"))[0] == 403
        assert (await there.ask("GET", "/read", "r"))[0] == 200

    within(scenario)


def test_many_at_once_ask_the_api_server_a_few_times() -> None:
    async def scenario(there: World) -> None:
        answers = await asyncio.gather(*(there.ask("GET", "/read", "m") for _ in range(60)))
        assert {status for status, _ in answers} == {200}
        assert len(there.reviewer.asked) <= 16

    within(scenario)


@pytest.mark.parametrize(("audiences", "status"), [(None, 401), (set(), 401), ({"others"}, 401), ({"dora", "others"}, 200)])
def test_a_token_for_another_audience_opens_nothing(audiences: set[str] | None, status: int) -> None:
    async def scenario(there: World) -> None:
        there.reviewer.audiences = audiences
        given, said = await there.ask("GET", "/read", "m")
        assert given == status
        assert status == 200 or "--audience=dora" in said["detail"]
        assert there.reviewer.asked[0]["spec"]["audiences"] == ["dora"]

    within(scenario, Config(kubernetes=True, audiences=["dora"]))


@pytest.mark.parametrize("status", [{}, {"authenticated": True}, {"authenticated": "true", "user": {"username": "x"}}, None])
def test_an_answer_that_does_not_say_yes_is_no(status: Any) -> None:
    with pytest.raises(Denied):
        user_of({"status": status}, [])


@pytest.mark.parametrize("status", [{}, {"allowed": 1}, {"allowed": True, "denied": True}, None])
def test_a_review_that_does_not_say_yes_is_no(status: Any) -> None:
    with pytest.raises(Denied):
        name_of({"username": "mona"}, {"status": status}, "get")


def test_what_is_kept_is_bounded_and_the_oldest_goes_first() -> None:
    clock = Clock()
    kept = Kept[int](10, 3, clock)
    for number in range(5):
        kept.put(number, str(number))
        clock.now += 1
    assert [kept.get(str(number)) for number in range(5)] == [None, None, 2, 3, 4]
    clock.now += 7
    kept.put(5, "5")
    assert len(kept) == 3
    kept.drop("5")
    clock.now += 10
    kept.put(6, "a-sessions-id")
    assert len(kept) == 1, "what is over is not kept"
    assert b"a-sessions-id" not in b"".join(vars(kept)["_things"])
    assert MOST <= 1024


def test_an_answer_that_lasts_can_ask_whether_it_still_may() -> None:
    async def scenario(there: World) -> None:
        assert await there.ask("GET", "/still", "r") == (200, True)
        there.reviewer.rights = {}
        there.clock.now += YES
        assert await there.ask("GET", "/still", "r") == (200, False)

    within(scenario)


# ---- the secret for reading, and where nothing is set ----


def test_the_secret_for_reading_opens_and_a_proxy_that_has_it_is_believed() -> None:
    config = Config(kubernetes=True, user_header="X-User", secrets={"reading": b"s3cret"})

    async def scenario(there: World) -> None:
        assert await there.ask("POST", "/write", "s3cret", X_User="mona") == (200, "mona")
        assert await there.ask("POST", "/write", "s3cret") == (200, SECRET_HOLDER)
        assert await there.ask("POST", "/write", "r", X_User="mona") != (200, "mona")
        assert (await there.ask("POST", "/write", "", X_User="mona"))[0] == 401
        assert (await there.ask("POST", "/write", "s3cret", X_User="mona", Sec_Fetch_Site="cross-site"))[0] == 403

    within(scenario, config)


def test_without_a_cluster_the_secret_is_all_there_is() -> None:
    async def scenario(there: World) -> None:
        assert (await there.ask("GET", "/read", "m"))[0] == 401
        await there.log_in("s3cret")
        assert await there.ask("GET", "/read") == (200, SECRET_HOLDER)
        assert not there.reviewer.asked

    within(scenario, Config(secrets={"reading": b"s3cret"}))


def test_where_nothing_is_set_this_machine_may_but_no_page_of_elsewhere() -> None:
    async def scenario(there: World) -> None:
        assert await there.ask("GET", "/read") == (200, THIS_MACHINE)
        assert (await there.ask("POST", "/write"))[0] == 200
        assert (await there.ask("POST", "/write", Origin="https://elsewhere.example"))[0] == 403
        assert (await there.ask("GET", "/read", Host="rebound.example:8090"))[0] == 403
        assert (await there.ask("GET", "/read", Host="localhost:8090"))[0] == 200

    within(scenario, Config())


# ---- sessions ----


def test_a_session_reads_and_with_a_word_of_where_it_comes_from_writes() -> None:
    async def scenario(there: World) -> None:
        assert (await there.ask("GET", "/login"))[0] == 401
        await there.log_in()
        assert await there.ask("GET", "/read") == (200, "mona")
        assert await there.ask("GET", "/login") == (200, {"name": "mona"})
        assert await there.ask("POST", "/write", Origin=there.address, Content_Type="application/json; charset=utf-8") == (
            200,
            "mona",
        )
        assert (await there.ask("POST", "/write", Sec_Fetch_Site="same-origin", Content_Type="application/json"))[0] == 200

    within(scenario)


@pytest.mark.parametrize(
    "headers",
    [
        JSON,
        JSON | {"Origin": "https://elsewhere.example"},
        JSON | {"Origin": "null"},
        JSON | {"Sec-Fetch-Site": "cross-site"},
        JSON | {"Sec-Fetch-Site": "same-site", "Origin": "here"},
        {"Origin": "here"},
        {"Origin": "here", "Content-Type": "text/plain"},
        {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"},
    ],
    ids=lambda headers: " ".join(f"{name}: {value}" for name, value in headers.items()),
)
def test_a_session_changes_nothing_for_a_page_of_elsewhere(headers: Mapping[str, str]) -> None:
    async def scenario(there: World) -> None:
        await there.log_in()
        known = {name: there.address if value == "here" else value for name, value in headers.items()}
        status, said = await there.ask("POST", "/write", body=b"{}", **known)
        assert status == 403, said
        assert await there.ask("GET", "/read") == (200, "mona"), "the session is as good as before"

    within(scenario)


def test_a_session_ends_after_eight_hours_with_its_token_or_by_logging_out() -> None:
    async def scenario(there: World) -> None:
        await there.log_in()
        there.clock.now += SESSION - 0.01
        assert (await there.ask("GET", "/read"))[0] == 200
        there.clock.now += 0.01
        assert (await there.ask("GET", "/read"))[0] == 401

        there.clock.now += YES
        await there.log_in()
        del there.reviewer.users["m"]
        there.clock.now += YES - 0.01
        assert (await there.ask("GET", "/read"))[0] == 200
        there.clock.now += 0.01
        assert (await there.ask("GET", "/read"))[0] == 401

        await there.log_in("r")
        before = dict(there.cookies)
        assert (await there.ask("POST", "/logout", Sec_Fetch_Site="cross-site"))[0] == 403
        assert (await there.ask("POST", "/logout"))[0] == 204
        there.cookies = before
        assert (await there.ask("GET", "/read"))[0] == 401, "also for whoever has kept the cookie"

    within(scenario)
    assert SESSION <= 8 * 3600
    assert SESSIONS <= 1000


def test_the_cookie_says_nothing_and_stays_at_home() -> None:
    async def scenario(there: World) -> None:
        async def cookie(**headers: str) -> Any:
            async with there.session.post(f"{there.address}/login", data=b'{"token": "m"}', headers=JSON | headers) as answer:
                return answer.cookies[COOKIE]

        plain = await cookie(Origin=there.address)
        assert (plain["httponly"], plain["samesite"].lower(), bool(plain["secure"])) == (True, "strict", False)
        assert int(plain["max-age"]) == SESSION
        assert len(plain.value) >= 40
        assert plain.value != (await cookie()).value
        https = {"Origin": there.address.replace("http:", "https:")}
        assert (await cookie(**https))["secure"], "before a proxy that ends TLS"

    within(scenario)


def test_a_form_logs_in_too_and_goes_on_to_the_page() -> None:
    async def scenario(there: World) -> None:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await there.ask("POST", "/login", body=b"token=m%20", **form))[0] == 303
        assert await there.ask("GET", "/read") == (200, "mona")

    within(scenario)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"token": "guessed"}', JSON, 401),
        (b'{"token": "n"}', JSON, 403),
        (b'{"token": "m"}', JSON | {"Sec-Fetch-Site": "cross-site"}, 403),
        (b'{"token": "\\ud800"}', JSON, 401),
        (b'{"token": 7}', JSON, 422),
        (b"[]", JSON, 422),
        (b"[" * 60_000, JSON, 422),
        (b"token=m", {"Content-Type": "text/plain"}, 422),
        (b"token=%ff&token", {"Content-Type": "application/x-www-form-urlencoded"}, 401),
        (b"\xff", {"Content-Type": "application/x-www-form-urlencoded"}, 422),
        (b" " * (4 * LONGEST + 1), JSON, 413),
    ],
)
def test_a_login_that_is_none_gives_no_session(body: bytes, headers: Mapping[str, str], status: int) -> None:
    async def scenario(there: World) -> None:
        assert (await there.ask("POST", "/login", body=body, **headers))[0] == status
        assert not there.cookies

    within(scenario)


@pytest.mark.parametrize(
    ("headers", "elsewhere"),
    [
        ({}, None),
        ({"host": "dora.example"}, None),
        ({"host": "dora.example", "origin": "https://dora.example"}, False),
        ({"host": "dora.example:8090", "origin": "http://dora.example:8090"}, False),
        ({"host": "dora.example:8090", "origin": "http://dora.example"}, True),
        ({"host": "dora.example", "origin": "null"}, True),
        ({"origin": "null"}, True),
        ({"host": "dora.example", "origin": "http://["}, True),
        ({"host": "rewritten", "origin": "https://dora.example", "sec-fetch-site": "same-origin"}, False),
        ({"host": "dora.example", "origin": "https://dora.example", "sec-fetch-site": "cross-site"}, True),
    ],
)
def test_where_a_request_comes_from(headers: Mapping[str, str], elsewhere: bool | None) -> None:
    assert from_elsewhere(headers) is elsewhere
