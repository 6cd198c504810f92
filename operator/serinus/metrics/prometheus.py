"""Prometheus, by its HTTP API: https://prometheus.io/docs/prometheus/latest/querying/api/.

A source that is slow, broken or hostile must not hold up a decision: every question ends after `TIMEOUT` seconds, whatever
the server does, and only so many can be unanswered at a time.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from serinus.analysis.counters import Labels
from serinus.metrics.provider import (
    MetricError,
    MetricMisconfigured,
    MetricRefused,
    MetricUnreachable,
    MetricUnusable,
    Snapshot,
)
from serinus.metrics.selector import Selector, parse

#: Seconds for one question, from asking to the last byte.
TIMEOUT = 3.0
#: Characters of a question that is asked in an address; many proxies take 8 KiB of one. Longer ones are sent in a body.
LONGEST_ADDRESS = 4096
#: Questions that may be unanswered at a time. Each holds a thread until its server lets go of it.
THREADS = 8
#: Bytes of an answer that are read: some hundred thousand series.
LARGEST_ANSWER = 16 * 1024 * 1024

_CHUNK = 64 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

T = TypeVar("T")


#: Tells in an answer which of several questions a series belongs to.
_QUERY = "serinus_query"
#: The question for the samples' own times. No query has this name.
_SAMPLED = "@"


class Prometheus:
    """Asks one Prometheus (or what speaks its API). Use `close` at the end.

    `url` may have a path; `headers` go with every question, an Authorization for instance.
    """

    def __init__(self, url: str, headers: dict[str, str] | None = None, timeout: float = TIMEOUT) -> None:
        self._url = url.rstrip("/")
        self._headers = headers or {}
        self._timeout = timeout
        self._free = asyncio.Semaphore(THREADS)
        self._idle: list[_Connection] = []
        self._flights: dict[tuple[object, ...], asyncio.Task[Any]] = {}
        #: How far the server's clock is ahead of ours.
        self._ahead = timedelta(0)

    async def counters(self, queries: Mapping[str, str], at: datetime | None = None) -> Snapshot:
        """As `Provider.counters`: one instant query for all, so that all are of the same scrape."""
        moment = None if at is None else at + self._ahead
        texts = dict(queries) if at is not None else dict(queries) | _sampled(queries)
        text = " or ".join(f'label_replace((\n{query}\n), "{_QUERY}", "{name}", "", "")' for name, query in texts.items())
        try:
            asked, result = await self._vector(text, moment)
        except MetricRefused:
            await self._blame(queries, moment)
            raise
        series: dict[str, dict[Labels, float]] = {name: {} for name in texts}
        for one in result:
            labels = dict(one.get("metric") or {})  # a copy: others may wait for the same answer
            name = labels.pop(_QUERY, "")
            value = _counter(name, labels, one, texts)
            series[name][tuple(sorted(labels.items()))] = value
        if at is None and result:
            self._ahead = datetime.fromtimestamp(float(result[0]["value"][0]), UTC) - asked
        taken = series.pop(_SAMPLED, {})
        sampled = {dict(labels).get("instance", ""): datetime.fromtimestamp(t, UTC) - self._ahead for labels, t in taken.items()}
        return Snapshot(at or asked, series, sampled)

    async def _vector(self, query: str, at: datetime | None) -> tuple[datetime, list[dict[str, Any]]]:
        return await self._once(("counters", query, at), lambda connection: connection.vector(query, at))

    async def _blame(self, queries: Mapping[str, str], at: datetime | None) -> None:
        """Which of several questions is refused, in the words that it alone is refused with."""
        for name, query in queries.items():
            try:
                await self._vector(query, at)
            except MetricRefused as refused:
                raise MetricRefused(f"{name}: {refused}", query) from None

    async def value(self, query: str, at: datetime) -> float | None:
        """As `Provider.value`: one instant query that must give at most one series."""

        def ask(connection: _Connection) -> float | None:
            return _one(connection.vector(query, at + self._ahead)[1])

        try:
            return await self._once(("value", query, at), ask)
        except (MetricRefused, MetricUnusable) as failure:
            raise type(failure)(str(failure), query) from None

    async def close(self) -> None:
        """Ends the questions that are under way and the idle connections."""
        for flight in list(self._flights.values()):
            flight.cancel()
        await asyncio.gather(*self._flights.values(), return_exceptions=True)
        while self._idle:
            self._idle.pop().close()

    async def _once(self, key: tuple[object, ...], ask: Callable[[_Connection], T]) -> T:
        """Asks, or joins the same question that is already under way."""
        flight: asyncio.Task[T] | None = self._flights.get(key)
        if flight is None:
            flight = asyncio.ensure_future(self._ask(ask))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._land(key, done))
        # One of several that wait may be cancelled; the others still want the answer.
        return await asyncio.shield(flight)

    def _land(self, key: tuple[object, ...], done: asyncio.Task[Any]) -> None:
        self._flights.pop(key, None)
        if not done.cancelled():
            done.exception()  # seen, even if everybody who asked has gone

    async def _ask(self, ask: Callable[[_Connection], T]) -> T:
        if not self._url:
            raise MetricMisconfigured("no Prometheus is configured; set prometheus.url in the chart's values")
        answer: Future[T] | None = None
        try:
            async with asyncio.timeout(self._timeout):
                await self._free.acquire()
                answer = Future()
                # A thread of its own: those of an executor are waited for when the process ends, however long a server takes.
                given = (ask, answer, asyncio.get_running_loop())
                threading.Thread(target=self._work, args=given, name="prometheus", daemon=True).start()
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            if answer is None:
                raise MetricUnreachable(
                    f"Prometheus has not answered {THREADS} earlier queries: not asked again until one ends"
                ) from None
            raise MetricUnreachable(f"Prometheus did not answer within {self._timeout:g} s") from None

    def _work(self, ask: Callable[[_Connection], T], answer: Future[T], loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: one question, on a connection that nobody else uses meanwhile."""
        connection: _Connection | None = None
        try:
            connection = self._idle.pop() if self._idle else _Connection(self._url, self._headers, self._timeout)
            result = ask(connection)
        except Exception as failure:
            if connection is not None:
                connection.close()
            # After a timeout the future is cancelled, and nobody wants to hear of it.
            if answer.set_running_or_notify_cancel():
                answer.set_exception(_said(failure))
        else:
            self._idle.append(connection)
            if answer.set_running_or_notify_cancel():
                answer.set_result(result)
        finally:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._free.release)


class _Session(requests.Session):
    """The client library writes a query into the address, however long it is."""

    def request(  # type: ignore[override]  # its many arguments are handed on
        self, method: str, url: str, params: Any = None, **more: Any
    ) -> requests.Response:
        if isinstance(params, dict) and len(params.get("query", "")) > LONGEST_ADDRESS:
            return super().request("POST", url, data=params, **more)
        return super().request(method, url, params=params, **more)


class _Connection:
    """The client library, with its answers checked before it drops what they are.

    It hands out ``data.result`` only, so that a scalar or an error page in HTML would arrive as something else entirely.
    """

    def __init__(self, url: str, headers: dict[str, str], timeout: float) -> None:
        session = _Session()
        session.max_redirects = 0
        session.hooks["response"] = [self._check]
        self._timeout = timeout
        self._deadline = 0.0
        self._client = PrometheusConnect(
            url,
            headers=headers,
            session=session,
            timeout=timeout,  # type: ignore[arg-type]  # handed on to requests, which takes fractions
            retry=Retry(total=0),
        )

    def vector(self, query: str, at: datetime | None) -> tuple[datetime, list[dict[str, Any]]]:
        """An instant query; `at` None: now, by the server's clock. Also when it was asked, by ours, after all waiting."""
        self._deadline = time.monotonic() + self._timeout
        params = {"timeout": f"{self._timeout:g}"}
        if at is not None:
            params["time"] = _seconds((at - _EPOCH) // _MILLISECOND)
        asked = datetime.now(UTC)
        result: list[dict[str, Any]] = self._client.custom_query(query, params)
        return asked, result

    def close(self) -> None:
        self._client.close()

    def _check(self, response: requests.Response, *_: object, **__: object) -> requests.Response:
        """Called with every response, before its body is read."""
        body = self._read(response)
        response.raw = io.BytesIO(body)
        if response.is_redirect:
            raise MetricRefused(f"Prometheus redirects (HTTP {response.status_code}): its final address is needed")
        answer = _parse(body)
        if answer is None:
            html = body.lstrip()[:1] == b"<"
            what = "a web page" if html else "no JSON" if body else "nothing"
            if response.status_code == 200:
                raise MetricUnusable(f"Prometheus answered with {what}: is its address right?")
            refusal = f"Prometheus answered HTTP {response.status_code}" + (f" with {what}" if body else "")
            raise MetricUnreachable(refusal) if response.status_code >= 500 else MetricRefused(refusal)
        if response.status_code >= 500:  # it is not well; nobody's query is to blame
            raise MetricUnreachable(_refusal(response.status_code, answer))
        if response.status_code != 200 or answer.get("status") != "success":
            raise MetricRefused(_refusal(response.status_code, answer))
        data = answer.get("data")
        kind = data.get("resultType") if isinstance(data, dict) else None
        if not isinstance(data, dict) or kind != "vector" or not isinstance(data.get("result"), list):
            raise MetricUnusable(_wrong(kind))
        return response

    def _read(self, response: requests.Response) -> bytes:
        """The body, however it drips: the library's timeout starts anew with every byte."""
        parts, size = [], 0
        try:
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                parts.append(chunk)
                size += len(chunk)
                if size > LARGEST_ANSWER:
                    raise MetricUnusable(f"the answer of Prometheus is larger than {LARGEST_ANSWER // 2**20} MiB")
                if time.monotonic() > self._deadline:
                    raise MetricUnreachable(f"Prometheus did not finish its answer within {self._timeout:g} s")
        finally:
            # Read to its end, the connection is back in its pool already; otherwise it ends here.
            response.raw.close()
        return b"".join(parts)


def _sampled(queries: Mapping[str, str]) -> dict[str, str]:
    """The question for when each target's newest sample was taken; none where it could not be told from the series' own times."""
    parsed = [parse(query) for query in queries.values()]
    selectors = [one if isinstance(one, Selector) else one.minuend for one in parsed if one is not None]
    # Without a name there may be several, and timestamp() takes it away: two series would be alike.
    if None in parsed or not all(selector.name for selector in selectors):
        return {}
    times = " or ".join(dict.fromkeys(f"timestamp({selector})" for selector in selectors))
    return {_SAMPLED: f"max by (instance) ({times})"}


def _parse(body: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _refusal(status: int, answer: dict[str, Any]) -> str:
    text = " ".join(str(answer.get("error") or "no reason given").split())[:500]
    return f"Prometheus answered HTTP {status}: {text}"


def _wrong(kind: object) -> str:
    if kind == "scalar":
        return "the query gives a scalar, not a series: leave out scalar(), and constants need vector()"
    if kind == "string":
        return "the query gives a string, not a number"
    if kind == "matrix":
        return "the query gives a range of values, not one: leave out the [...] or wrap it in a function"
    return f"Prometheus answered with a result of type {kind!s:.40}, not vector"


def _counter(name: str, labels: dict[str, str], series: dict[str, Any], queries: Mapping[str, str]) -> float:
    """The value of one series of the answer to the query of that name."""
    shown = _labels({"metric": labels})
    if name not in queries:
        raise MetricUnusable(f"Prometheus answered with a series that nobody asked for: {shown}")
    if "value" not in series:
        native = "wrap it in histogram_count() or histogram_fraction()"
        raise MetricUnusable(f"{name} gives native histograms: {native}", queries[name])
    value = float(series["value"][1])
    if not (math.isfinite(value) and value >= 0):
        raise MetricUnusable(f"{name} gives {series['value'][1]} for {shown}, which no counter can be", queries[name])
    return value


def _one(result: list[dict[str, Any]]) -> float | None:
    if len(result) > 1:
        named = " and ".join(_labels(series) for series in result[:2])
        raise MetricUnusable(f"the query gives {len(result)} series where one number is needed, e.g. {named}")
    if not result:
        return None
    if "value" not in result[0]:
        raise MetricUnusable("the query gives a native histogram: wrap it in histogram_quantile() or another function")
    return float(result[0]["value"][1])


def _labels(series: dict[str, Any]) -> str:
    labels = series.get("metric") or {}
    return "{" + ", ".join(f'{k}="{v}"' for k, v in sorted(labels.items()))[:200] + "}"


def _said(failure: Exception) -> MetricError:
    """Any failure of a question as one sentence."""
    if isinstance(failure, MetricError):
        return failure
    if isinstance(failure, requests.exceptions.Timeout | TimeoutError) or "timed out" in _cause(failure):
        return MetricUnreachable("Prometheus did not answer in time")
    if isinstance(failure, requests.RequestException | HTTPError | OSError):
        return MetricUnreachable(f"Prometheus cannot be reached: {_cause(failure)}")
    if isinstance(failure, PrometheusApiClientException):
        return MetricRefused(f"Prometheus answered with an error: {str(failure)[:300]}")
    return MetricUnusable(f"the answer of Prometheus cannot be read ({type(failure).__name__}: {str(failure)[:200]})")


def _cause(failure: BaseException) -> str:
    """The innermost reason; the outer ones repeat it with addresses of objects."""
    for _ in range(10):
        inner = getattr(failure, "reason", None) or failure.__cause__ or failure.__context__
        inner = inner or next((a for a in failure.args if isinstance(a, BaseException)), None)
        if not isinstance(inner, BaseException):
            break
        failure = inner
    text = failure.strerror if isinstance(failure, OSError) and failure.strerror else str(failure)
    return (text or type(failure).__name__)[:300]


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"
