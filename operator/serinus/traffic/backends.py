"""backendRefs, pure: adding the canary beside the user's Service, splitting its weight, and taking it out again.

The shapes are Gateway API's (v1 HTTPRoute and GRPCRoute: spec.rules[].backendRefs[]). Other backends, rules, filters,
matches and order stay. In a rule with other backends all weights are multiplied by 100, so that the share the user gave
each of them stays the same while his Service's part is split in percent.
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
        """This entry sends traffic to the user's Service."""
        return self._names(ref, self.service) and ref.get("port", self.port) == self.port

    def is_canary(self, ref: Ref) -> bool:
        """This entry is ours."""
        return self._names(ref, self.canary)

    def _names(self, ref: Ref, name: str) -> bool:
        here = ref.get("namespace", self.namespace) == self.namespace
        return here and ref.get("kind", "Service") == "Service" and not ref.get("group") and ref.get("name") == name


def shares(rules: list[Rule], pair: Pair) -> list[int | None]:
    """For each entry of the user's Service: the canary's percent beside it; None where the canary is missing."""
    found: list[int | None] = []
    for _, refs in _backends(rules):
        for index, ref in enumerate(refs):
            if pair.is_service(ref):
                beside = refs[index + 1] if index + 1 < len(refs) else {}
                found.append(_percent(ref, beside) if pair.is_canary(beside) else None)
    return found


def _percent(service: Ref, canary: Ref) -> int:
    mine, theirs = canary.get("weight", 1), service.get("weight", 1)
    return round(100 * mine / (mine + theirs)) if mine else 0


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


def split(rules: list[Rule], pair: Pair, weight: int, weights: Mapping[str, int]) -> list[Rule]:
    """The rules with the canary at `weight` percent of the user's Service."""
    changed = deepcopy(rules)
    for number, refs in _backends(changed):
        if any(pair.is_service(ref) for ref in refs):
            changed[number]["backendRefs"] = list(_split(number, refs, pair, weight, weights))
    return changed


def _split(number: int, refs: list[Ref], pair: Pair, weight: int, weights: Mapping[str, int]) -> Iterator[Ref]:
    own = [ref for ref in refs if not pair.is_canary(ref)]
    alone = len(own) == 1
    for index, ref in enumerate(own):
        given = _given(weights, number, index, ref)
        if not pair.is_service(ref):
            yield ref | {"weight": given * 100}
            continue
        unit = min(given, 1) if alone else given
        yield ref | {"weight": unit * (100 - weight)}
        yield deepcopy(ref) | {"name": pair.canary, "weight": unit * weight}


def _given(weights: Mapping[str, int], number: int, index: int, ref: Ref) -> int:
    given = weights.get(f"{number}/{index}", ref.get("weight", 1))
    return 1 if given < 0 else given


def restored(rules: list[Rule], pair: Pair, weights: Mapping[str, int]) -> list[Rule]:
    """The rules without the canary, each weight as the user wrote it."""
    changed = deepcopy(rules)
    for number, refs in _backends(changed):
        if not any(pair.is_canary(ref) for ref in refs):
            continue
        own = [ref for ref in refs if not pair.is_canary(ref)]
        for index, ref in enumerate(own):
            given = weights.get(f"{number}/{index}")
            if given is None:
                ref["weight"] = 1
            elif given < 0:
                ref.pop("weight", None)
            else:
                ref["weight"] = given
        changed[number]["backendRefs"] = own
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
