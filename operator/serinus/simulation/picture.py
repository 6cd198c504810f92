"""When bad versions are rolled back, as a picture: the share of rollouts that were by then, a line a failure rate. Plain SVG."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from html import escape

from serinus.analysis.finding import percent
from serinus.simulation.study import Row

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 176, 48, 56
#: Told apart also by who cannot tell red from green (Okabe and Ito, 2008).
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_GOOD = "#777777"
_TICKS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
#: Pixels that labels beside the lines are apart at least.
_APART = 16


def picture(title: str, rows: Sequence[Row]) -> str:
    """The picture as the text of an SVG file. Seconds count from the canary's first traffic, on a logarithmic axis."""
    times = [seconds for row in rows for seconds in row.all("RolledBack")]
    least, most = _range(times)

    def x(seconds: float) -> float:
        part = math.log(max(seconds, least) / least) / math.log(most / least)
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        text(_LEFT, 26, title, weight="bold"),
        text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, "time since the canary's first traffic", anchor="middle"),
        text(16, (_TOP + _HEIGHT - _BOTTOM) / 2, "rolled back by then", anchor="middle", turned=True),
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts += [line(x(least), y(share), x(most), y(share)), text(_LEFT - 8, y(share) + 4, percent(share), anchor="end")]
    for tick in _TICKS:
        if least <= tick <= most:
            parts += [line(x(tick), y(0), x(tick), y(1)), text(x(tick), y(0) + 18, _duration(tick), anchor="middle")]
    colours = iter(_COLOURS * len(rows))
    labels = []
    for row in rows:
        colour, seen = _GOOD if row.good else next(colours), row.all("RolledBack")
        points = [(x(least), y(0))]
        for seconds in dict.fromkeys(seen):  # a step up at each moment
            by_then = y(bisect_right(seen, seconds) / len(row.runs))
            points += [(x(seconds), points[-1][1]), (x(seconds), by_then)]
        points.append((x(most), points[-1][1]))
        course = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
        parts.append(f'<polyline points="{course}" fill="none" stroke="{colour}" stroke-width="2"/>')
        told = "good canary" if row.good else f"{percent(row.failing.canary)} fail"
        labels.append((points[-1][1], f"{told}: {row.part('RolledBack')}", colour))
    lowest = -math.inf
    for at, label, colour in sorted(labels, key=lambda placed: placed[0]):
        lowest = max(at + 4, lowest + _APART)
        parts.append(text(_WIDTH - _RIGHT + 8, lowest, label, colour=colour))
    return "\n".join([*parts, "</svg>", ""])


def _range(times: Sequence[float]) -> tuple[float, float]:
    """From a tick before the first to one after the last."""
    first, last = min(times, default=1), max(times, default=60)
    least = max((tick for tick in _TICKS if tick < first), default=_TICKS[0])
    return least, min((tick for tick in _TICKS if tick >= last and tick > least), default=max(last, 2 * least))


def _duration(seconds: int) -> str:
    if seconds < 60:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 3600 else f"{seconds // 3600} h"


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "#dddddd", width: float = 1) -> str:
    """A line of a picture; without a colour one of its grid."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def text(
    x: float, y: float, words: str, anchor: str = "start", weight: str = "normal", colour: str = "#222222", turned: bool = False
) -> str:
    """Words in a picture, from `x` on, around it, or up to it (`anchor`); `turned`: from below to above."""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    shown = f'text-anchor="{anchor}" font-weight="{weight}" fill="{colour}"{turn}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {shown}>{escape(words)}</text>'
