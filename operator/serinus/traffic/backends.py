"""backendRefs, pure: adding the canary beside the user's Service, splitting its weight, and taking it out again.

The shapes are Gateway API's (v1 HTTPRoute and GRPCRoute: spec.rules[].backendRefs[]). Other backends, rules, filters,
matches and order stay. In a rule with other backends all weights are multiplied by 100, so that the share the user gave
each of them stays the same while his Service's part is split in percent. From then on the Service and the canary have together
what stands there: shares stay right when he edits, inserts or removes rules and weights in mid-release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from serinus.api.base import short_name

Rule = dict[str, Any]
Ref = dict[str, Any]

#: Gateway API's highest weight.
MOST = 1_000_000


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
    #: What the two have together: hundredfold, where ours is in the rule.
    weight: int


def entries(refs: list[Ref], pair: Pair) -> list[Entry]:
    """The user's backendRefs of a rule, each with ours if that is right behind it."""
    found = []
    for ref, behind in pairwise([*refs, {}]):
        if pair.is_canary(ref):
            continue
        ours = behind if pair.is_canary(behind) and pair.names_service(ref) and _port(ref) == _port(behind) else None
        weight = _weight(ref) + (_weight(ours) if ours else 0)
        found.append(Entry(ref, pair.is_service(ref) or ours is not None, ours, weight))
    strays = _strays(refs, found, pair)
    return _with_strays(found, strays, pair) if strays else found


def _strays(refs: list[Ref], known: list[Entry], pair: Pair) -> list[Ref]:
    """Those of ours that are behind no entry."""
    placed = [id(entry.ours) for entry in known]
    return [ref for ref in refs if pair.is_canary(ref) and id(ref) not in placed]


def _with_strays(found: list[Entry], strays: list[Ref], pair: Pair) -> list[Entry]:
    """Ours that are not behind the Service any more: what they have is still the Service's."""
    if not found:  # only ours was left in the rule: the Service is put before it
        return [Entry(strays[0] | {"name": pair.service, "weight": 0}, True, strays[0], sum(map(_weight, strays)))]
    whose = [index for index, entry in enumerate(found) if pair.names_service(entry.ref)]
    if not whose and any(entry.weight for entry in found):  # taken out, and the others have the traffic
        return found
    having = {index for index, entry in enumerate(found) if entry.ours is not None}
    for stray in strays:
        index = min(whose, key=lambda each: _distance(found[each].ref, stray, pair, each in having), default=0)
        having.add(index)
        entry = found[index]
        found[index] = replace(entry, splits=bool(whose), weight=entry.weight + _weight(stray))
    return found


def _distance(ref: Ref, stray: Ref, pair: Pair, has: bool) -> tuple[bool, bool, bool]:
    """The Service at another port is another backend of the user's."""
    return (_port(ref) != _port(stray), not pair.is_service(ref), has)


def names_service(rules: list[Rule], pair: Pair) -> bool:
    """Some entry sends traffic to the user's Service."""
    return any(entry.splits for _, refs in _backends(rules) for entry in entries(refs, pair))


def is_idle(rules: list[Rule], pair: Pair) -> bool:
    """Whoever wrote the rules gave the user's Service no traffic, so that there is none to share."""
    return not any(entry.splits and entry.weight for _, refs in _backends(rules) for entry in entries(refs, pair))


def shares(rules: list[Rule], pair: Pair) -> list[int | None]:
    """For each entry of the user's Service: the canary's percent beside it; None where the canary is missing.

    One that was given weight 0 is left out: there is nothing to share. An entry of ours that somebody moved elsewhere counts,
    as long as it has traffic.
    """
    found: list[int | None] = []
    for _, refs in _backends(rules):
        known = entries(refs, pair)
        for entry in known:
            if entry.splits and entry.ours is None:
                found.append(None)
            elif entry.ours is not None and entry.weight:
                found.append(_percent(entry.weight - _weight(entry.ref), _weight(entry.ref)))
        total = sum(_weight(ref) for ref in refs)
        strays = [ref for ref in _strays(refs, known, pair) if _weight(ref)]
        found += [_percent(_weight(ref), total - _weight(ref)) for ref in strays]
    return found


def _port(ref: Ref) -> Any:
    return ref.get("port")


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
    return next((name for _, refs in _backends(rules) if (name := _busy(refs, pair))), "")


def _busy(refs: list[Ref], pair: Pair) -> str:
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


def split(rules: list[Rule], pair: Pair, weight: int, adding: bool = True) -> list[Rule]:
    """The rules with the canary at `weight` percent of the user's Service, also where it is not yet if `adding`."""
    changed = deepcopy(rules)
    for number, refs in _backends(changed):
        known = entries(refs, pair)
        if any(entry.splits for entry in known):
            if not _busy(refs, pair):
                changed[number]["backendRefs"] = list(_split(known, pair, weight, adding))
        elif known:  # his Service was taken out of the rule: there is nobody to share with
            for ref in refs:
                ref.update({"weight": 0} if pair.is_canary(ref) else {})
            for entry in known:
                entry.ref.update({"weight": min(MOST, entry.weight)} if entry.weight != _weight(entry.ref) else {})
    return changed


def taken(rules: list[Rule], pair: Pair, most: int) -> list[Rule]:
    """The rules with the canary at `most` percent where it has more. Nothing is given to it or added anywhere."""
    lower = split(rules, pair, most, adding=False)
    more = [max((share or 0 for share in shares([rule], pair)), default=0) > most for rule in rules]
    return [new if much else old for old, new, much in zip(rules, lower, more, strict=True)]


def _split(known: list[Entry], pair: Pair, weight: int, adding: bool) -> Iterator[Ref]:
    for entry, both in zip(known, _hundredfold(known), strict=True):
        if not entry.splits or not (adding or entry.ours or entry.weight > _weight(entry.ref)):
            yield entry.ref | {"weight": both}
            continue
        mine = max(1, round(both * weight / 100)) if both and weight else 0
        yield entry.ref | {"weight": both - mine}
        yield deepcopy(entry.ref) | {"name": pair.canary, "weight": mine}


def _hundredfold(known: list[Entry]) -> list[int]:
    """Their weights, each percent of one that splits a whole number. Alone in its rule any weight is as good as 1."""
    weights = [entry.weight for entry in known]
    if len(weights) == 1:
        return [_alone(weights[0])]
    whole = all(entry.ours and not 0 < entry.weight < 100 for entry in known if entry.splits)
    if whole and max(weights) <= MOST:
        return weights
    return _within(known, weights)


def _alone(weight: int) -> int:
    return 100 * min(weight, 1)


def _within(known: list[Entry], weights: list[int]) -> list[int]:
    """A hundred times as much, or the same shares as exactly as Gateway API's highest weight and whole percents allow."""
    most = min(MOST, 100 * max(weights))  # what the highest of them becomes; the others in proportion, except for whole percents
    least = [100 if entry.splits else 1 for entry in known]
    return [max(low, weight * most // max(weights)) if weight else 0 for low, weight in zip(least, weights, strict=True)]


def restored(rules: list[Rule], pair: Pair, weights: Mapping[str, int]) -> list[Rule]:
    """The rules without the canary, each weight as the user wrote it: as `weights` has it, where that fits what is there."""
    changed = deepcopy(rules)
    for number, refs in _backends(changed):
        if not any(pair.is_canary(ref) for ref in refs):
            continue
        known = entries(refs, pair)
        whole = all(entry.weight % 100 == 0 for entry in known)
        over = 100 if whole else max(1, -(-max(entry.weight for entry in known) // MOST))
        given = [max(1, entry.weight // over) if entry.weight else 0 for entry in known]
        wrote = [weights.get(f"{number}/{index}", weight) for index, weight in enumerate(given)]
        then = [abs(weight) for weight in wrote]
        fits = [entry.weight for entry in known] == ([_alone(*then)] if len(then) == 1 else _within(known, then))
        for entry, weight, was in zip(known, given, wrote, strict=True):
            kept = was if fits or (whole and abs(was) == weight) else weight
            entry.ref.pop("weight", None)
            if kept >= 0:
                entry.ref["weight"] = kept
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
