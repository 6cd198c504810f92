"""The picture: a point a rule."""

from __future__ import annotations

import math

from e2e.verdicts.report import PROMISED, Results, mean_part
from e2e.verdicts.rules import NAMES

from serinus.analysis.finding import percent
from serinus.simulation.picture import line, text

_WIDTH, _HEIGHT = 900, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 330, 72, 56
_TIMES = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_PARTS = (0.0001, 0.001, 0.01, 0.1, 1.0)
#: Told apart also by who cannot tell red from green (Okabe and Ito, 2008).
_COLOURS = {"serinus": "#0072b2", "severe": "#0072b2", "independent": "#0072b2", "wald": "#777777", "ranks": "#cc79a7"}
_OTHER = "#d55e00"
#: Pixels from one line of the legend to the next.
_APART = 28


def picture(results: Results) -> str:
    """docs/verdicts.svg. Both axes are logarithmic."""
    points = [(rule, results.time(rule), results.good(rule)) for rule in NAMES if results.good(rule)]
    points = [(rule, time, rows) for rule, time, rows in points if math.isfinite(time)]
    shortest = min((time for _, time, _ in points), default=1)
    least = max((tick for tick in _TIMES if tick <= shortest), default=1)

    def x(seconds: float) -> float:
        return _LEFT + math.log(seconds / least) / math.log(_TIMES[-1] / least) * (_WIDTH - _LEFT - _RIGHT)

    def y(part: float) -> float:
        low = math.log(_PARTS[0])
        return _HEIGHT - _BOTTOM - (math.log(max(part, _PARTS[0])) - low) / -low * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        text(_LEFT, 24, "How often a good release is rolled back, and how long a bad one lives", weight="bold"),
        text(_LEFT, 44, "a point: mean of all good releases; its line: up to the worst cell", colour="#666666"),
        text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, "time to alarm, mean of the median cell", anchor="middle"),
        text(18, (_TOP + _HEIGHT - _BOTTOM) / 2, "false rollbacks", anchor="middle", turned=True),
    ]
    for part in _PARTS:
        told = f"≤ {percent(part)}" if part == _PARTS[0] else percent(part)
        across = line(x(least), y(part), x(_TIMES[-1]), y(part), "#009e73" if part == PROMISED else "#dddddd")
        parts += [across, text(_LEFT - 8, y(part) + 4, told, anchor="end")]
    for tick in _TIMES:
        if tick >= least:
            told = f"{tick} s" if tick < 60 else f"{tick // 60} min"
            parts += [line(x(tick), y(_PARTS[0]), x(tick), y(1)), text(x(tick), y(_PARTS[0]) + 18, told, anchor="middle")]
    parts.append(text(x(_TIMES[-1]) - 4, y(PROMISED) - 5, "promised: at most 1 %", anchor="end", colour="#007a5a"))
    for number, (rule, time, rows) in enumerate(points, 1):
        colour, across, mean = _COLOURS.get(rule, _OTHER), x(time), y(mean_part(rows))
        parts.append(line(across, mean, across, y(max(row.part for row in rows)), colour, 2))
        legend = _WIDTH - _RIGHT + 28, _TOP + number * _APART
        for at in ((across, mean), legend):
            parts.append(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="8" fill="{colour}"/>')
            parts.append(text(at[0], at[1] + 4.5, str(number), "middle", "bold", "#ffffff"))
        parts.append(text(legend[0] + 16, legend[1] + 4.5, NAMES[rule].replace("`", ""), colour=colour))
    return "\n".join([*parts, "</svg>", ""])
