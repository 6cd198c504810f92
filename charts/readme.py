"""The table of values in charts/serinus/README.md, from the comments in values.yaml: `python charts/readme.py [--check]`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent / "serinus"
README = CHART / "README.md"
BEGIN, END = "<!-- values: made by charts/readme.py from values.yaml -->", "<!-- end of values -->"


def comments(text: str) -> dict[str, str]:
    """What stands above each key, by the key's dotted path."""
    found: dict[str, str] = {}
    above: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        if remark := re.match(r"\s*# ?(.*)", line):
            above.append(remark[1])
            continue
        if key := re.match(r"(\s*)([A-Za-z]+):(?:\s|$)", line):
            depth = len(key[1])
            parents = [parent for parent in parents if parent[0] < depth] + [(depth, key[2])]
            if above:
                found[".".join(name for _, name in parents)] = " ".join(above)
        above = []
    return found


def rows(values: dict[str, Any], said: dict[str, str], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Each value that a person sets: path, default, meaning. A commented map is one value; an uncommented one, its children."""
    for key, value in values.items():
        here = f"{path}{key}"
        if here in said:
            yield here, json.dumps(value), said[here]
        elif isinstance(value, dict) and value:
            yield from rows(value, said, f"{here}.")
        else:
            raise SystemExit(f"values.yaml: {here} has no comment above it")


def readme() -> str:
    """README.md with its table as values.yaml says."""
    text = (CHART / "values.yaml").read_text()
    lines = [
        f"| `{path}` | `{default}` | {meaning.replace('|', chr(92) + '|')} |"
        for path, default, meaning in rows(yaml.safe_load(text), comments(text))
    ]
    table = "\n".join(["| value | default | meaning |", "|---|---|---|", *lines])
    head, _, rest = README.read_text().partition(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Write the table, or with --check say whether it is as values.yaml says."""
    wanted = readme()
    if wanted == README.read_text():
        return
    if "--check" in sys.argv:
        sys.exit("charts/serinus/README.md is not as values.yaml says. Run: python charts/readme.py")
    README.write_text(wanted)


if __name__ == "__main__":
    main()
