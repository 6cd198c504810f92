"""Counters read from where they are counted, a gateway or the pods themselves, without waiting for a scrape.

For clusters that scrape every 30 or 60 s. Only plain selectors and differences of two can be asked, for there is no PromQL here.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp

from serinus.analysis.counters import PAGE, Labels
from serinus.metrics.exposition import ACCEPT, Samples, evaluate, names, parse
from serinus.metrics.provider import MetricMisconfigured, MetricRefused, MetricUnreachable, MetricUnusable, Snapshot
from serinus.metrics.selector import Expression
from serinus.metrics.selector import parse as expression

#: Seconds for one page, from asking to its last byte.
TIMEOUT = 3.0
#: Bytes of a page that are read.
LARGEST_PAGE = 32 * 1024 * 1024
#: Seconds for which a page that was read answers others as well: many canaries are behind one gateway.
FRESH = 0.4


@dataclass(frozen=True, slots=True)
class Page:
    """One process' metrics. `labels` are put on every sample, as a scrape puts namespace and pod."""

    url: str
    host: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass
class _Read:
    """What was read of a page."""

    at: datetime
    since: float
    body: bytes
    kind: str | None
    samples: dict[frozenset[str], Samples] = field(default_factory=dict)


class Pages:
    """Reads pages, each once for all who ask at the same time."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._flights: dict[Page, asyncio.Task[_Read]] = {}
        self._read: dict[Page, _Read] = {}

    async def counters(self, pages: Sequence[Page], queries: Mapping[str, str]) -> Snapshot:
        """All series of all `queries` on all `pages`, now. Raises MetricError if one of the pages cannot be read.

        Half of the pages would be half of the truth: one version's requests may all be on the other half.
        """
        if not pages:
            raise MetricUnreachable("source: direct has nobody to ask: no pod of either version is ready")
        asked = {name: _understood(name, query) for name, query in queries.items()}
        wanted = frozenset(name for one in asked.values() for name in names(one))
        reads = await asyncio.gather(*(self._once(page) for page in pages))
        found = await asyncio.to_thread(_answers, list(zip(pages, reads, strict=True)), asked, wanted)
        return Snapshot(min(read.at for read in reads), found, pages=frozenset(page.url for page in pages))

    async def close(self) -> None:
        """Ends what is under way and the idle connections."""
        for flight in list(self._flights.values()):
            flight.cancel()
        await asyncio.gather(*self._flights.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _once(self, page: Page) -> _Read:
        known = self._read.get(page)
        if known is not None and time.monotonic() - known.since < FRESH:
            return known
        flight = self._flights.get(page)
        if flight is None:
            flight = asyncio.get_running_loop().create_task(self._fetch(page), name=f"page {page.url}")
            self._flights[page] = flight
            flight.add_done_callback(lambda done: self._land(page, done))
        return await asyncio.shield(flight)

    def _land(self, page: Page, done: asyncio.Task[_Read]) -> None:
        self._flights.pop(page, None)
        now = time.monotonic()
        self._read = {known: read for known, read in self._read.items() if now - read.since < FRESH}
        if not done.cancelled() and done.exception() is None:
            self._read[page] = done.result()

    async def _fetch(self, page: Page) -> _Read:
        headers = {"Accept": ACCEPT} | ({"Host": page.host} if page.host else {})
        if self._session is None:
            self._session = aiohttp.ClientSession()
        at, since = datetime.now(UTC), time.monotonic()
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._session.get(page.url, headers=headers, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    raise MetricRefused(f"{page.url} answered HTTP {answer.status}")
                body = await answer.content.read(LARGEST_PAGE + 1)
                while len(body) <= LARGEST_PAGE and (more := await answer.content.read(LARGEST_PAGE + 1 - len(body))):
                    body += more
        except TimeoutError:
            raise MetricUnreachable(f"{page.url} did not answer within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            raise MetricUnreachable(f"{page.url} cannot be reached: {failure or type(failure).__name__}") from None
        if len(body) > LARGEST_PAGE:
            raise MetricUnusable(f"{page.url} is larger than {LARGEST_PAGE // 2**20} MiB")
        return _Read(at, since, body, answer.headers.get("Content-Type"))


def _understood(name: str, query: str) -> Expression:
    found = expression(query)
    if found is None:
        raise MetricMisconfigured(
            f"{name}: source: direct reads plain selectors and `a - ignoring(le) b`, not {' '.join(query.split())[:200]!r}"
        )
    return found


def _answers(
    reads: Sequence[tuple[Page, _Read]], asked: Mapping[str, Expression], wanted: frozenset[str]
) -> dict[str, dict[Labels, float]]:
    """In a thread: a gateway's page may have megabytes."""
    series: dict[str, dict[Labels, float]] = {name: {} for name in asked}
    for page, read in reads:
        try:
            samples = read.samples.get(wanted)
            if samples is None:
                samples = read.samples[wanted] = parse(read.body, read.kind, wanted, dict(page.labels))
            for name, one in asked.items():
                for labels, value in evaluate(one, samples).items():
                    series[name][*labels, (PAGE, page.url)] = value
        except MetricUnusable as failure:
            raise MetricUnusable(f"{page.url}: {failure}") from None
    return series


async def resolved(url: str) -> list[Page]:
    """A page for each address of `url`'s host: a Service without a cluster IP has one for each of the gateway's pods.

    Raises MetricUnreachable for a name without an address, and MetricMisconfigured for what is no such URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MetricMisconfigured(f"{url!r} is no address of metrics such as http://gateway-metrics.gateway:9100/metrics")
    if parts.scheme == "https":
        return [Page(url)]  # its certificate is for the name
    try:
        port = parts.port or 80
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as failure:
        raise MetricUnreachable(f"{parts.hostname} has no address: {failure.strerror or failure}") from None
    except ValueError:
        raise MetricMisconfigured(f"{url!r} has no port that there is") from None
    path = (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else "")
    addresses = sorted({str(one[4][0]) for one in found})
    return [Page(f"http://{_bracketed(address)}:{port}{path}", parts.netloc) for address in addresses]


def pod_page(address: str, port: int, path: str, labels: Mapping[str, str]) -> Page:
    """The page of one pod."""
    return Page(f"http://{_bracketed(address)}:{port}{path}", labels=tuple(sorted(labels.items())))


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
