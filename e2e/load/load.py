"""A bounded open-loop load generator: sends GET requests on a fixed clock and prints what came back as JSON lines.

It runs as a pod (see manifest.py) and needs Python 3.11 and aiohttp alone. The lines:

    {"t": 1700000000, "n": {"v1 200": 90, "v2 200": 7, "? 500": 3}}    one per second: answers by message and status
    {"fail": 1700000000.123, "end": 1700000000.128, "status": 500}     one per failed request: its start, end and status,
                                                                       or the text of the error in place of the status
    {"first": "v2", "t": 1700000000.123}                               the first answer of each message: its request's start
    {"summary": {…}}                                                   at the end

A request fails if its status is 400 or above, or if there is no answer. Requests are counted in the second they start.
Each has its time by the clock; one that cannot be sent within 50 ms of it is sent as soon as it can be, and counted as late.
"""

import argparse
import asyncio
import collections
import json
import math
import signal
import sys
import time
from typing import Any

import aiohttp

LATE_SECONDS = 0.05
TIMEOUT_SECONDS = 5.0
MOST_SECONDS = 3600.0
MOST_PER_SECOND = 2000.0


class Tally:
    """What came back, by the second in which each request started."""

    def __init__(self) -> None:
        self.seconds: dict[int, collections.Counter[str]] = {}
        self.whole: collections.Counter[str] = collections.Counter()
        self.open: collections.Counter[int] = collections.Counter()
        self.messages: set[str] = set()
        self.failed = 0
        self.late = 0
        self.times: list[float] = []

    def sent(self, start: float) -> None:
        """Note that a request started."""
        self.open[int(start)] += 1
        self.seconds.setdefault(int(start), collections.Counter())

    def answered(self, start: float, end: float, status: int | str, message: str) -> None:
        """Note how a request ended, and print what is to be known at once."""
        key = f"{message or '?'} {status}"
        self.open[int(start)] -= 1
        self.seconds[int(start)][key] += 1
        self.whole[key] += 1
        self.times.append(end - start)
        if isinstance(status, str) or status >= 400:
            self.failed += 1
            put({"fail": round(start, 3), "end": round(end, 3), "status": status})
        elif message not in self.messages:
            self.messages.add(message)
            put({"first": message, "t": round(start, 3)})

    def print_finished(self, now: float) -> None:
        """Print each second that is over and whose requests have all ended, in order."""
        for second in sorted(self.seconds):
            if second + 1 > now or self.open[second]:
                break
            put({"t": second, "n": dict(self.seconds.pop(second))})
            del self.open[second]

    def summary(self, wanted: float, took: float) -> dict[str, Any]:
        """Return the numbers of the whole run; times are in milliseconds."""
        times = sorted(self.times)
        number = len(times)
        quantiles = (
            {f"p{q}_ms": round(1000 * times[min(number - 1, number * q // 100)], 1) for q in (50, 90, 99)} if times else {}
        )
        return {
            "requests": number,
            "failed": self.failed,
            "late": self.late,
            "seconds": round(took, 1),
            "rate": wanted,
            "cpu_seconds": round(time.process_time(), 2),
            **quantiles,
            "n": dict(self.whole),
        }


def put(line: dict[str, Any]) -> None:
    """Print one JSON line at once."""
    print(json.dumps(line), flush=True)


async def request(session: aiohttp.ClientSession, url: str, headers: dict[str, str], tally: Tally) -> None:
    """Send one request and tally its end."""
    start = time.time()
    tally.sent(start)
    status: int | str
    message = ""
    try:
        async with session.get(url, headers=headers, allow_redirects=False) as answer:
            body = await answer.read()
            status = answer.status
        if status < 400:
            found = json.loads(body)
            message = str(found.get("message", "")) if isinstance(found, dict) else ""
    except TimeoutError:
        status = f"no answer within {TIMEOUT_SECONDS:g} s"
    except aiohttp.ClientError as error:
        status = f"{type(error).__name__}: {error}"
    except ValueError:
        pass  # an answer that is no JSON has no message
    tally.answered(start, time.time(), status, message)


async def load(url: str, host: str, rate: float, duration: float, concurrency: int) -> Tally:
    """Send `rate` requests a second for `duration` seconds, with at most `concurrency` open, and return the tally."""
    tally = Tally()
    headers = {"Host": host} if host else {}
    stopped = asyncio.Event()
    for received in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(received, stopped.set)
    connector = aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=60)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    free = asyncio.Semaphore(concurrency)
    tasks: set[asyncio.Task[None]] = set()

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        free.release()

    begun = time.monotonic()
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        reporter = asyncio.create_task(report(tally))
        for number in range(math.ceil(rate * duration)):
            ahead = begun + number / rate - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)
            await free.acquire()
            if stopped.is_set():
                break
            if time.monotonic() - begun - number / rate > LATE_SECONDS:
                tally.late += 1
            task = asyncio.create_task(request(session, url, headers, tally))
            tasks.add(task)
            task.add_done_callback(ended)
            if time.monotonic() - begun > duration + 2 * TIMEOUT_SECONDS:
                break  # so far behind that the rest would never be sent in time
        if tasks:
            await asyncio.wait(tasks)
        reporter.cancel()
    tally.print_finished(math.inf)
    put({"summary": tally.summary(rate, time.monotonic() - begun)})
    return tally


async def report(tally: Tally) -> None:
    """Print finished seconds, four times a second, for ever."""
    while True:
        await asyncio.sleep(0.25)
        tally.print_finished(time.time())


def main() -> int:
    """Read the arguments and run. Status 2 for arguments out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--host", default="", help="Host header, such as shop.example")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds; it stops by itself")
    parser.add_argument("--concurrency", type=int, default=64, help="most requests open at once")
    given = parser.parse_args()
    if not (0 < given.rate <= MOST_PER_SECOND and 0 < given.duration <= MOST_SECONDS and given.concurrency > 0):
        parser.error(f"give a rate up to {MOST_PER_SECOND:g}/s, a duration up to {MOST_SECONDS:g} s and a positive concurrency")
    asyncio.run(load(given.url, given.host, given.rate, given.duration, given.concurrency))
    return 0


if __name__ == "__main__":
    sys.exit(main())
