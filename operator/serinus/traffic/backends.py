"""backendRefs, pure: adding the canary beside the user's Service, splitting its weight, and taking it out again.

The shapes are Gateway API's (v1 HTTPRoute and GRPCRoute: spec.rules[].backendRefs[]). Other backends, rules, filters,
matches and order stay. In a rule with other backends all weights are multiplied by 100, so that the share the user gave
each of them stays the same while his Service's part is split in percent. What he gave is read back from the rule itself:
it stays right when he edits, inserts or removes rules in mid-release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from serinus.api.base import short_name

Rule = dict[str, Any]
Ref = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """The user's Service and the canary's."""

    service: str
    canary: str
    port: int
    namespace: str

    def is_service(self, ref: Ref) -> bool:
        """This entry sends traffic to the user's Service, at the port that is delivered."""
        return self.names_service(ref) and ref.get("port", self.port) == self.port

    def names_service(self, ref: Ref) -> bool:
        """The same, at whatever port."""
        return self._names(ref, self.service)

    def is_canary(self, ref: Ref) -> bool:
        """This entry is ours."""
        return self._names(ref, self.canary)

    def _names(self, ref: Ref, name: str) -> bool:
        here = ref.get("namespace", self.namespace) == self.namespace
        return here and ref.get("kind", "Service") == "Service" and not ref.get("group") and ref.get("name") == name


@dataclass(frozen=True)
class Entry:
    """One of the user's backendRefs in a rule."""

    ref: Ref
    #: Sends traffic to the user's Service: by its port or, whatever port the Canary names by now, because ours is behind it.
    splits: bool
    #: Ours, right behind it.
    ours: Ref | None
    #: The weight that the user gave it.
    given: int


def entries(refs: list[Ref], pair: Pair) -> list[Entry]:
    """A rule's backendRefs, read. Where one of them is ours, the weights of all are hundredfold."""
    scaled = any(pair.is_canary(ref) for ref in refs)
    found = []
    for ref, behind in pairwise([*refs, {}]):
        if pair.is_canary(ref):
            continue
        ours = behind if pair.is_canary(behind) and pair.names_service(ref) else None
        weight = _weight(ref) + (_weight(ours) if ours else 0)
        given = max(1, round(weight / 100)) if scaled and weight else weight
        found.append(Entry(ref, pair.is_service(ref) or ours is not None, ours, given))
    return found


def names_service(rules: list[Rule], pair: Pair) -> bool:
    """Some entry sends traffic to the user's Service."""
    return any(entry.splits for _, refs in _backends(rules) for entry in entries(refs, pair))


def shares(rules: list[Rule], pair: Pair) -> list[int | None]:
    """For each entry of the user's Service: the canary's percent beside it; None where the canary is missing.

    One that was given weight 0 is left out: there is nothing to share. An entry of ours that somebody moved elsewhere counts.
    """
    found: list[int | None] = []
    for _, refs in _backends(rules):
        known = entries(refs, pair)
        for entry in known:
            if entry.splits and entry.ours is None:
                found.append(None)
            elif entry.ours is not None and entry.given:
                found.append(_percent(_weight(entry.ours), _weight(entry.ref)))
        placed = [id(entry.ours) for entry in known]
        total = sum(_weight(ref) for ref in refs)
        strays = [ref for ref in refs if pair.is_canary(ref) and id(ref) not in placed]
        found += [_percent(_weight(ref), total - _weight(ref)) for ref in strays]
    return found


def _weight(ref: Ref) -> int:
    return int(ref.get("weight", 1))


def _percent(mine: int, others: int) -> int:
    """At least 1 when there is any."""
    return max(1, round(100 * mine / (mine + others))) if mine else 0


def has_canary(rules: list[Rule], pair: Pair) -> bool:
    """Some entry is ours."""
    return any(pair.is_canary(ref) for _, refs in _backends(rules) for ref in refs)


def busy(rules: list[Rule], pair: Pair) -> str:
    """The Service of another Canary whose release is in the same rule, where ours is not yet; '' when there is none.

    Two releases in one rule would each have to undo the other's arithmetic: the second waits for the first.
    """
    for _, refs in _backends(rules):
        if any(pair.is_service(ref) for ref in refs) and not any(pair.is_canary(ref) for ref in refs):
            for ref, beside in pairwise(refs):
                if beside.get("name") == short_name(f"{ref.get('name')}-canary"):
                    return str(ref["name"])
    return ""


def user_weights(rules: list[Rule], pair: Pair) -> dict[str, int]:
    """'rule/backendRef' -> weight as the user wrote it (-1: none), for the rules that name his Service."""
    return {
        f"{number}/{index}": ref.get("weight", -1)
        for number, refs in _backends(rules)
        if any(pair.is_service(ref) for ref in refs)
        for index, ref in enumerate(r for r in refs if not pair.is_canary(r))
    }


def split(rules: list[Rule], pair: Pair, weight: int) -> list[Rule]:
    """The rules with the canary at `weight` percent of the user's Service."""
    changed = deepcopy(rules)
    for number, refs in _backends(changed):
        known = entries(refs, pair)
        if any(entry.splits for entry in known):
            changed[number]["backendRefs"] = list(_split(known, pair, weight))
    return changed


def _split(known: list[Entry], pair: Pair, weight: int) -> Iterator[Ref]:
    for entry in known:
        if not entry.splits:
            yield entry.ref | {"weight": entry.given * 100}
            continue
        unit = _unit(entry.given, len(known))
        yield entry.ref | {"weight": unit * (100 - weight)}
        yield deepcopy(entry.ref) | {"name": pair.canary, "weight": unit * weight}


def _unit(given: int, among: int) -> int:
    """A hundredth of what stands in the route for a weight that the user gave; alone in its rule any weight is as good as 1."""
    given = 1 if given < 0 else given
    return min(given, 1) if among == 1 else given


def restored(rules: list[Rule], pair: Pair, weights: Mapping[str, int]) -> list[Rule]:
    """The rules without the canary, each weight as the user wrote it: as `weights` has it, where that fits what is there."""
    changed = deepcopy(rules)
    for number, refs in _backends(changed):
        if not any(pair.is_canary(ref) for ref in refs):
            continue
        known = entries(refs, pair)
        for index, entry in enumerate(known):
            wrote = weights.get(f"{number}/{index}", entry.given)
            given = wrote if _unit(wrote, len(known)) == entry.given else entry.given
            entry.ref.pop("weight", None)
            if given >= 0:
                entry.ref["weight"] = given
        changed[number]["backendRefs"] = [entry.ref for entry in known]
    return changed


def _backends(rules: list[Rule]) -> Iterator[tuple[int, list[Ref]]]:
    for number, rule in enumerate(rules):
        yield number, rule.get("backendRefs") or []


def operations(before: list[Rule], after: list[Rule]) -> list[dict[str, Any]]:
    """JSON Patch from one to the other: only the backendRefs that change, each after a test of what it replaces.

    Where only weights differ the test is on the names, so that another writer elsewhere in the route never holds up a
    rollback; a list that changes is tested whole.
    """
    patch: list[dict[str, Any]] = []
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        was, becomes = old.get("backendRefs") or [], new.get("backendRefs") or []
        if was == becomes:
            continue
        path = f"/spec/rules/{number}/backendRefs"
        if [_unweighted(ref) for ref in was] != [_unweighted(ref) for ref in becomes]:
            patch += [{"op": "test", "path": path, "value": was}, {"op": "replace", "path": path, "value": becomes}]
            continue
        for index, ref in enumerate(becomes):
            if ref != was[index]:
                patch += [
                    {"op": "test", "path": f"{path}/{index}/name", "value": ref["name"]},
                    {"op": "add", "path": f"{path}/{index}/weight", "value": ref["weight"]},
                ]
    return patch


def _unweighted(ref: Ref) -> Ref:
    return {key: value for key, value in ref.items() if key != "weight"}
