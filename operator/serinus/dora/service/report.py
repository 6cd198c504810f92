"""The report beside its Markdown: a page to print, and a message for a chat. Pure.

Names come from whoever opens a pull request or sends an event, so none of them reaches a browser or a chat as markup.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from serinus.dora.figures import span
from serinus.dora.service.figures import SAID, Figures, days, lines, slowest

#: Failures that a message names; a page names all.
NAMED = 10

_STYLE = """
:root { color-scheme: light dark; --bad: #b3261e; --good: #146c2e; --line: #8886; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #7fd694; } }
body { font: 16px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; }
td.value { font-weight: 600; white-space: nowrap; }
.met { color: var(--good); } .missed { color: var(--bad); font-weight: 600; }
code { font-size: .9em; }
@media print {
  :root { color-scheme: light; --bad: #b3261e; --good: #146c2e; }
  body { margin: 0; max-width: none; font-size: 11pt; }
  tr { break-inside: avoid; }
}
"""


def html(figures: Figures, title: str) -> str:
    """A document of its own: no script, nothing that is loaded."""
    rows = (
        (
            escape(x.name),
            f'<td class="value">{escape(x.value)}</td>',
            escape(x.target),
            f'<td class="{SAID[x.met] if x.met is not None else "open"}">{SAID[x.met]}</td>' if x.target else "",
            str(x.n),
            escape(x.more),
        )
        for x in lines(figures)
    )
    failures = (
        (_code(f.release), escape(f.why), "escaped" if f.escaped else "caught", _share(f.share), span(f.seconds))
        for f in figures.failure_rate.failures
    )
    slow = ((_code(d.change), span(d.lead), _code(d.release)) for d in slowest(figures))
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(days(figures))}.</p>",
        *_table("", ("figure", "value", "target", "met or missed", "n", "more"), rows),
        *_table("Failures", ("release", "why", "caught or escaped", "share of users", "recovered in"), failures),
        *_table("Slowest changes", ("change", "lead time", "with release"), slow),
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(parts)


def _table(title: str, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Of cells that are escaped already; without rows there is none."""
    body = ["".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row) for row in rows]
    if not body:
        return []
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return [
        *([f"<h2>{title}</h2>"] if title else []),
        "<table>",
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *(f"<tr>{row}</tr>" for row in body),
        "</tbody>",
        "</table>",
    ]


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def message(figures: Figures, title: str) -> str:
    """A few lines for a chat, in that much of Slack's markup that others know too.

    https://docs.slack.dev/messaging/formatting-message-text/
    """
    said = [f"*{_spoken(title)}*", f"{days(figures)}."]
    for x in lines(figures):
        target = f", target {x.target}: {SAID[x.met]}" if x.target else ""
        said.append(f"• {x.name}: *{_spoken(x.value)}*{target} (n {x.n})")
    failures = figures.failure_rate.failures
    if failures:
        said += ["", "Failures:"]
    for f in failures[:NAMED]:
        where = "escaped" if f.escaped else "caught"
        said.append(f"• `{_quoted(f.release)}`: {_spoken(f.why)}; {where}, recovered in {span(f.seconds)}")
    if len(failures) > NAMED:
        said.append(f"… and {len(failures) - NAMED} more")
    return "\n".join(said)


def _quoted(text: str) -> str:
    """Within backticks. Slack reads `<!channel>` even there, so its three characters are replaced as it asks for."""
    plain = "".join(c if c.isprintable() and c != "`" else " " for c in text)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _spoken(text: str) -> str:
    """The same in running text, where an @ would call people."""
    return "".join(" " if c in "*_~" else c for c in _quoted(text)).replace("@", "@\u200b")
