"""Looks are timed to scrapes: soon after new samples can be there, and not in between."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serinus.metrics.rhythm import APPENDED, LONGEST, Rhythm

START = datetime(2026, 3, 1, 10, tzinfo=UTC)


class Scraped:
    """Targets that Prometheus scrapes, each at its interval and phase; a scrape takes `takes` seconds to be there."""

    def __init__(self, *targets: tuple[float, float], takes: float = 0.05, jitter: float = 0.0) -> None:
        self.targets, self.takes, self.jitter = targets, takes, jitter
        self.rng, self.known = random.Random(1), dict[tuple[int, int], float]()  # noqa: S311  # no secret

    def taken(self, target: int, number: int) -> float:
        """The timestamp of a scrape."""
        period, phase = self.targets[target]
        shaken = self.known.setdefault((target, number), self.rng.uniform(-self.jitter, self.jitter))
        return phase + number * period + shaken

    def newest(self, now: float) -> dict[str, datetime]:
        """What a look at `now` seconds sees."""
        found = {}
        for i, (period, phase) in enumerate(self.targets):
            number = int((now - phase) // period) + 1
            while number >= 0 and self.taken(i, number) + self.takes > now:
                number -= 1
            if number >= 0:
                found[f"t{i}"] = START + timedelta(seconds=self.taken(i, number))
        return found


def looks(scraped: Scraped, interval: float, until: float, begin: float = 100.0) -> list[tuple[float, dict[str, datetime]]]:
    """The moments of the looks of a release, and what each saw."""
    rhythm, now, made = Rhythm(), begin, []
    while now < until:
        seen = scraped.newest(now)
        made.append((now, seen))
        rhythm.note(seen)
        now += rhythm.pause(START + timedelta(seconds=now), interval)
    return made


def test_once_the_rhythm_is_known_each_scrape_is_seen_by_one_look_just_after_it() -> None:
    made = looks(Scraped((5.0, 1.3), jitter=0.004), 1.0, 200)
    known = [(now, seen["t0"]) for now, seen in made if now > 111]
    assert len(known) == pytest.approx((200 - 111) / 5, abs=1)
    assert all((now - (at - START).total_seconds()) == pytest.approx(APPENDED, abs=0.02) for now, at in known)


def test_before_it_is_known_looks_are_an_interval_apart() -> None:
    made = [now for now, _ in looks(Scraped((5.0, 1.3)), 1.0, 108)]
    assert made == pytest.approx([100, 101, 102, 106.3 + APPENDED]), "two scrapes tell: 96.3 and 101.3"


def test_an_interval_as_long_as_the_scrapes_is_never_slept_through() -> None:
    made = looks(Scraped((5.0, 1.3), jitter=0.02), 5.0, 300)
    assert len({seen["t0"] for _, seen in made}) >= (300 - 100) / 5 - 2
    assert len(made) <= (300 - 100) / 5 + 2


def test_a_longer_interval_than_the_scrapes_is_kept_to() -> None:
    made = [now for now, _ in looks(Scraped((5.0, 1.3)), 20.0, 500)]
    assert all(later - now >= 15 for now, later in pairwise(made))


def test_a_scrape_that_takes_long_is_looked_for_again_after_an_interval() -> None:
    made = looks(Scraped((10.0, 0.0), takes=0.9), 1.0, 200)
    late = [now - (seen["t0"] - START).total_seconds() for now, seen in made if now > 125]
    fresh = [age for age in late if age < 5]
    assert fresh
    assert max(fresh) <= APPENDED + 1.0 + 0.01


def test_long_scrape_intervals_are_looked_at_every_few_seconds_for_new_pods() -> None:
    made = [now for now, _ in looks(Scraped((60.0, 7.0)), 1.0, 600)]
    known = [later - now for now, later in pairwise(made) if now > 250]
    assert max(known) <= LONGEST
    assert sum(known) / len(known) > 3


def test_each_answer_measures_the_servers_clock_anew_and_a_sample_stays_the_same() -> None:
    rng, rhythm, now, made = random.Random(1), Rhythm(), 105.3, 0  # noqa: S311  # no secret
    scraped = Scraped((5.0, 0.1), (5.0, 2.3))
    while now < 405:
        moved = timedelta(milliseconds=rng.uniform(0, 20))
        rhythm.note({name: at - moved for name, at in scraped.newest(now).items()})
        now, made = now + rhythm.pause(START + timedelta(seconds=now), 1.0), made + 1
    assert made <= 130, "two targets every 5 s for 300 s"


def test_a_target_that_is_gone_no_longer_counts() -> None:
    rhythm = Rhythm()
    for second in (0, 5, 10):
        rhythm.note({"a": START + timedelta(seconds=second), "b": START + timedelta(seconds=second + 2)})
    rhythm.note({"a": START + timedelta(seconds=15)})
    assert rhythm.pause(START + timedelta(seconds=15.3), 1.0) == pytest.approx(5 + APPENDED - 0.3, abs=0.01)


def test_a_scrape_that_failed_does_not_make_looks_rare_for_ever() -> None:
    rhythm = Rhythm()
    for second in (0, 5, 10, 20, 25, 30):
        rhythm.note({"a": START + timedelta(seconds=second)})
    assert rhythm.pause(START + timedelta(seconds=30.3), 1.0) == pytest.approx(5 + APPENDED - 0.3, abs=0.01)


@given(
    st.lists(st.tuples(st.sampled_from([1.0, 5.0, 15.0, 30.0]), st.floats(0, 30)), min_size=1, max_size=4),
    st.sampled_from([0.5, 1.0, 5.0, 10.0]),
)
def test_no_scrape_is_seen_much_later_than_looks_at_the_interval_alone_would_see_it(
    targets: list[tuple[float, float]], interval: float
) -> None:
    scraped = Scraped(*targets)
    made = looks(scraped, interval, 260)
    for i, (period, phase) in enumerate(targets):
        for number in range(int((100 - phase) // period) + 1, int((230 - phase) // period)):
            there = phase + number * period + scraped.takes
            seen = min(now for now, found in made if (found[f"t{i}"] - START).total_seconds() >= phase + number * period - 1e-6)
            assert seen - there <= max(interval + APPENDED, LONGEST if period > LONGEST else 0) + 1e-6
