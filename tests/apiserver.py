"""A small API server in memory, and a client of it in place of `serinus.kube.Kube`.

What it keeps of the real one: resourceVersion and generation, preconditions, JSON Patch with `test` and merge patch, status
apart from spec, finalizers, who owns which field of a spec, and the chart's admission policies.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from serinus.kube import (
    DEPLOYMENTS,
    PODS,
    AlreadyExists,
    Conflict,
    Kind,
    KubeError,
    NotFound,
    Object,
)

OPERATOR = "serinus"
#: What nobody writes but the API server.
OWN = ("name", "namespace", "uid", "generation", "resourceVersion", "creationTimestamp", "deletionTimestamp")
Key = tuple[Kind, str, str]
#: Told of every change: kind, before (None: created), after (None: removed), by whom.
Watch = Callable[[Kind, Object | None, Object | None, str], None]


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def patched(target: Object, operations: Sequence[Any]) -> Object:
    """RFC 6902: test, add, replace and remove. The API server answers any of them that cannot be done as it does a `test`."""
    try:
        for operation in operations:
            _operate(target, operation)
    except (KeyError, IndexError, ValueError) as error:
        raise Conflict(422, f"the server rejected our request due to an error in our request: {error!r}") from error
    return target


def _operate(target: Any, operation: Any) -> None:
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    for part in way:
        target = target[int(part) if isinstance(target, list) else part]
    at: Any = int(last) if isinstance(target, list) else last
    value = operation.get("value")
    if operation["op"] == "test":
        if target[at] != value:
            raise ValueError(f"test of {operation['path']}")
    elif operation["op"] == "add" and isinstance(target, list):
        target.insert(at, value)
    elif operation["op"] == "add":
        target[at] = value
    elif operation["op"] == "replace":
        _ = target[at]
        target[at] = value
    else:
        del target[at]


def matches(labels: dict[str, str], selector: str) -> bool:
    """`a=b,c`: equality and existence."""
    for part in filter(None, selector.split(",")):
        key, equals, value = part.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def copied(thing: Object) -> Object:
    copy: Object = json.loads(json.dumps(thing))
    return copy


class Server:
    """Objects are replaced, never changed; whoever reads one gets a copy of his own."""

    def __init__(self, now: Callable[[], datetime], policies: bool = True) -> None:
        self.now, self.policies = now, policies
        #: Each beside its text: a text is copied in no time.
        self.objects: dict[Key, tuple[Object, str]] = {}
        self.version = 0
        self.watch: Watch = lambda kind, before, after, who: None
        self._made: dict[Key, int] = {}

    def copy(self) -> Server:
        """As it is now; neither sees what the other does from here on."""
        other = Server(self.now, self.policies)
        other.objects, other.version = dict(self.objects), self.version
        other._made = dict(self._made)
        return other

    def all(self, kind: Kind, namespace: str | None = None, selector: str = "") -> list[Object]:
        """To look at, not to change."""
        keys = sorted(key for key in self.objects if key[0] == kind and namespace in (None, key[1]))
        found = (self.objects[key][0] for key in keys)
        return [item for item in found if matches(item["metadata"].get("labels") or {}, selector)]

    # ---- what every client may do ----

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        stored = self.objects.get((kind, namespace, name))
        return json.loads(stored[1]) if stored else None

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self.find(kind, namespace, name)
        if found is None:
            raise NotFound(404, f'{kind.plural} "{name}" not found')
        return found

    def create(self, kind: Kind, namespace: str, body: Object, who: str = "kubectl") -> Object:
        new = copied(body)
        key = (kind, namespace, new["metadata"]["name"])
        if key in self.objects:
            raise AlreadyExists(409, f'{kind.plural} "{key[2]}" already exists')
        self._made[key] = self._made.get(key, 0) + 1
        uid = hashlib.sha256(f"{kind.plural}/{namespace}/{key[2]}/{self._made[key]}".encode()).hexdigest()[:12]
        new.pop("status", None)
        new["metadata"] |= {"namespace": namespace, "uid": uid, "generation": 1, "creationTimestamp": self._moment()}
        new["metadata"]["managedFields"] = self._owners([], who, {}, new)
        return self._put(key, None, new, who)

    def change(
        self, kind: Kind, namespace: str, name: str, how: Callable[[Object], Object], who: str = "kubectl", subresource: str = ""
    ) -> Object:
        """One write: `how` makes the new object of the old one. A resourceVersion that it names is a precondition."""
        new = how(self.get(kind, namespace, name))
        old = self.objects[kind, namespace, name][0]
        if new["metadata"].get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
            raise Conflict(409, f'Operation cannot be fulfilled on {kind.plural} "{name}": the object has been modified')
        if subresource == "status":
            new = {**old, "metadata": dict(old["metadata"]), "status": new.get("status", {})}
        else:
            new.pop("status", None)
            new |= {"status": old["status"]} if "status" in old else {}
            new["metadata"] |= {field: old["metadata"][field] for field in OWN if field in old["metadata"]}
            self._admit(kind, old, new, who)
        if new == old:
            return copied(old)
        was = old["metadata"].get("managedFields") or []
        if new["metadata"].get("managedFields", was) == was:
            new["metadata"]["managedFields"] = self._owners(was, who, old, new, subresource)
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        key = (kind, namespace, name)
        if "deletionTimestamp" in new["metadata"] and kind != PODS and not new["metadata"].get("finalizers"):
            return self._remove(key, new, who)
        return self._put(key, old, new, who)

    def delete(self, kind: Kind, namespace: str, name: str, uid: str = "", who: str = "kubectl") -> None:
        old = self.get(kind, namespace, name)
        if uid and old["metadata"]["uid"] != uid:
            raise Conflict(409, f'the UID in the precondition ({uid}) does not match the UID of {kind.plural} "{name}"')
        going = "deletionTimestamp" in old["metadata"]
        if (going and kind == PODS) or not (kind == PODS or old["metadata"].get("finalizers")):
            self._remove((kind, namespace, name), old, who)
        elif not going:  # a pod ends first, and is deleted again by its kubelet; others wait for their finalizers
            new = copied(old)
            new["metadata"] |= {"deletionTimestamp": self._moment(), "generation": old["metadata"]["generation"] + 1}
            self._put((kind, namespace, name), old, new, who)

    def _put(self, key: Key, old: Object | None, new: Object, who: str) -> Object:
        self.version += 1
        new["metadata"]["resourceVersion"] = str(self.version)
        text = json.dumps(new)
        self.objects[key] = json.loads(text), text
        self.watch(key[0], old, self.objects[key][0], who)
        return json.loads(text)

    def _remove(self, key: Key, old: Object, who: str) -> Object:
        self.version += 1
        del self.objects[key]
        self.watch(key[0], old, None, who)
        return old

    def _moment(self) -> str:
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def _owners(self, was: list[Object], who: str, old: Object, new: Object, subresource: str = "") -> list[Object]:
        """managedFields: whoever changes a field of the spec owns it from then on, whole, as with an atomic list."""
        before, after = old.get("spec") or {}, new.get("spec") or {}
        changed = [f"f:{field}" for field in sorted({*before, *after}) if before.get(field) != after.get(field)]
        mine: list[str] = []
        entries: list[Object] = []
        for entry in was:
            owned = entry["fieldsV1"]["f:spec"]
            if (entry["manager"], entry.get("subresource", "")) == (who, subresource):
                mine = [*owned]
            elif (left := {field: {} for field in owned if field not in changed}) or not owned:
                entries.append({**entry, "fieldsV1": {"f:spec": left}})
        owned = {field: {} for field in [*mine, *changed]} if not subresource else {}
        own: Object = {"manager": who, "operation": "Update", "fieldsV1": {"f:spec": owned}, "time": self._moment()}
        return [*entries, own | ({"subresource": subresource} if subresource else {})]

    def _admit(self, kind: Kind, old: Object, new: Object, who: str) -> None:
        """charts/serinus/templates/admission.yaml."""
        labelled = any("serinus.dev/canary" in (thing["metadata"].get("labels") or {}) for thing in (old, new))
        if kind != DEPLOYMENTS or not self.policies or not labelled:
            return
        other = new["spec"]["template"] != old["spec"]["template"]
        if other and who != OPERATOR and "serinus.dev/promoting" in (old["metadata"].get("annotations") or {}):
            raise KubeError(422, "Serinus is promoting a release of this Deployment")
        if other or (old["spec"].get("paused") and who != OPERATOR):
            new["spec"]["paused"] = True


#: A call: verb, kind, name, subresource.
Call = tuple[str, str, str, str]
READS = ("get", "list")
#: Does what is called for, or something else.
Gate = Callable[[Call, Callable[[], Any]], Any]


class Client:
    """`serinus.kube.Kube` for one process. Every call goes through `gate`."""

    def __init__(self, server: Server, gate: Gate, who: str = OPERATOR) -> None:
        self._server, self._gate, self._who = server, gate, who

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        return await self._call("get", kind, name, "", lambda: self._server.get(kind, namespace, name))

    async def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return await self._call("get", kind, name, "", lambda: self._server.find(kind, namespace, name))

    async def list(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Object]:
        work = lambda: [copied(item) for item in self._server.all(kind, namespace, selector)]  # noqa: E731  # as each below
        return await self._call("list", kind, "", "", work)

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        work = lambda: self._server.create(kind, namespace, body, self._who)  # noqa: E731
        return await self._call("create", kind, body["metadata"]["name"], "", work)

    async def merge(self, kind: Kind, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        return await self._change("merge", kind, namespace, name, subresource, lambda old: merged(old, body))

    async def patch(self, kind: Kind, namespace: str, name: str, operations: Sequence[Any], subresource: str = "") -> Object:
        return await self._change("patch", kind, namespace, name, subresource, lambda old: patched(old, operations))

    async def replace(self, kind: Kind, namespace: str, name: str, body: Object) -> Object:
        return await self._change("replace", kind, namespace, name, "", lambda old: copied(body))

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str = "") -> None:
        try:
            await self._call("delete", kind, name, "", lambda: self._server.delete(kind, namespace, name, uid, self._who))
        except NotFound:
            return

    async def _change(
        self, verb: str, kind: Kind, namespace: str, name: str, subresource: str, how: Callable[[Object], Object]
    ) -> Object:
        work = lambda: self._server.change(kind, namespace, name, how, self._who, subresource)  # noqa: E731
        return await self._call(verb, kind, name, subresource, work)

    async def _call(self, verb: str, kind: Kind, name: str, subresource: str, work: Callable[[], Any]) -> Any:
        if verb not in READS:
            await asyncio.sleep(0)  # whatever else has something to do is in between
        return self._gate((verb, kind.plural, name, subresource), work)
