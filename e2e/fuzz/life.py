"""One shop under a Canary, and what is done to it. What is done, and when, follows from the seed alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any

from e2e import shop
from e2e.fuzz import api, schema
from e2e.fuzz.api import JSON_PATCH, MERGE, STRATEGIC, Answer
from e2e.fuzz.state import Space, oddities
from e2e.kubectl import Object

NAME, SECOND = "checkout", "second"
#: What a Canary goes back to when all is mended: quick, and content with pods.
PLAIN: Object = {
    "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
    "service": {"name": NAME, "port": 80},
    "traffic": {"gatewayAPI": {"httpRoutes": [{"name": NAME}]}},
    "steps": [{"weight": 50, "duration": "1s"}],
    "analysis": {"interval": "500ms", "metricsDelay": "1s"},
    "rollback": {"keepCanaryFor": "1s"},
    "promotion": {"deadline": "20s", "drain": "1s"},
    "progressDeadline": "15s",
}
PAUSING: Object = {**PLAIN, "steps": [{"weight": 20, "duration": "1s"}, {"pause": {}}, {"weight": 100}]}
CHECKED: Object = {
    **PLAIN,
    "stepWeights": [10, 60],
    "analysis": {**PLAIN["analysis"], "metrics": [{"name": "depth", "templateRef": {"name": "depth"}}], "noDataAfter": "2s"},
    "onDelete": "LeaveHeld",
}
del CHECKED["steps"]
SPECS = (PLAIN, PLAIN, PAUSING, CHECKED)
BY_PODS: Object = {"podRatio": {}}
ODD: tuple[str, ...] = (
    "",
    "/",
    "x",
    "{release}",
    "{release}/",
    "{release}/0",
    "{release}/1",
    "{release}/-1",
    "{release}/99999999999999999999",
)
ODD += ("{release}/1/1", "{release} /1", "\u202e{release}", "🐤", "true", "../{release}", "{release}\n", "x" * 5000)


@dataclass(frozen=True)
class Act:
    """One thing to do after a wait of `wait` seconds."""

    wait: float
    what: str
    how: Any

    def __str__(self) -> str:
        return f"+{self.wait:g} s {self.what} {json.dumps(self.how, ensure_ascii=False)[:300]}"


# ---- what is done: each takes a Random and says how; what happens follows from that alone ----


def _env(random: Random) -> Object:
    return {"MESSAGE": f"v{random.randint(2, 5)}", **random.choice([{}, {}, {}, {"CRASH": "1"}, {"FAIL_RATE": "0.5"}])}


def _template(random: Random) -> Object:
    notes = random.choice(
        [
            {"serinus.dev/skip": random.choice(["true", "false", "", "TRUE", "0", "🐤"])},
            {"serinus.dev/commit": "c" * 20000, "serinus.dev/repository": "\u202e" * 600},
            {"kubectl.kubernetes.io/restartedAt": str(random.random())},
            {"note": "\x00\x0b\u2028{{ namespace }}"},
        ]
    )
    containers = random.choice(
        [
            [{"name": "shop", "image": random.choice(["serinus/no-such-image:0", "UPPER:case", "x" * 600, shop.IMAGE])}],
            [{"name": "shop", "readinessProbe": {"httpGet": {"path": "/no"}}}],
            [{"name": "shop", "command": ["/no-such-program"]}],
            [{"name": f"c{n}", "image": f"serinus/none:{n}", "imagePullPolicy": "Never"} for n in range(34)],
            [],
        ]
    )
    labels = random.choice([{}, {}, {"version": "v2"}, {"app": "another"}, {"x" * 63: "y" * 63}])
    return {"metadata": {"annotations": notes, "labels": labels}, "spec": {"containers": containers}}


def _deployment(random: Random) -> Object:
    return random.choice(
        [
            {"replicas": random.randint(0, 3)},
            {"replicas": random.randint(0, 3)},
            {"paused": random.choice([True, False, None])},
            {"revisionHistoryLimit": random.choice([0, 1, 10])},
            {"minReadySeconds": random.choice([0, 3])},
            {"progressDeadlineSeconds": random.choice([1, 600])},
            {"strategy": {"type": "Recreate", "rollingUpdate": None}},
            {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}}},
        ]
    )


def _labels(random: Random) -> Object:
    label = random.choice([None, None, "another", SECOND, "", "x" * 63])
    promoting = random.choice([None, "x", "", "{release}", "🐤"])
    return random.choice([{"labels": {"serinus.dev/canary": label}}, {"annotations": {"serinus.dev/promoting": promoting}}])


def _service(random: Random) -> Object:
    ports = [[{"name": "http", "port": 81, "targetPort": 8080}], [{"port": 80, "targetPort": 1}]]
    ports.append([{"name": "http", "port": 80, "targetPort": 8080}, {"name": "more", "port": 81, "targetPort": 8080}])
    return random.choice(
        [
            {"spec": {"ports": random.choice(ports)}},
            {"spec": {"selector": {"app": random.choice([NAME, "another"]), "tier": random.choice([None, "web"])}}},
            {"spec": {"selector": None}},
            {"spec": {"type": random.choice(["NodePort", "ClusterIP"])}},
            {"metadata": {"annotations": {"note": "x" * 1000}}},
        ]
    )


def _rules(random: Random) -> Any:
    """JSON Patch for the route."""
    there = "/spec/rules/0/backendRefs"
    path = [{"path": {"type": "PathPrefix", "value": "/x"}}]
    header = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x", "value": "y"}]}}
    return random.choice(
        [
            [{"op": "add", "path": f"{there}/0/weight", "value": random.choice([0, 1, 7, 1000000])}],
            [{"op": "replace", "path": there, "value": [{"name": NAME, "port": 80, "weight": random.choice([0, 1, 50])}]}],
            [{"op": "add", "path": f"{there}/0", "value": {"name": "another", "port": 80, "weight": 3}}],
            [{"op": "remove", "path": f"{there}/1"}],
            [{"op": "remove", "path": f"{there}/0"}],
            [{"op": "add", "path": "/spec/rules/0", "value": {"matches": path, "backendRefs": [{"name": NAME, "port": 80}]}}],
            [{"op": "add", "path": "/spec/rules/0/filters", "value": [header]}],
            [{"op": "replace", "path": "/spec/parentRefs/0/name", "value": random.choice(["shop", "no-such-gateway"])}],
            [{"op": "remove", "path": "/spec/rules"}],
        ]
    )


def _spec(random: Random) -> Object:
    """A Canary's spec with one or two things changed, at or past a bound, or another sound one."""
    spec = deepcopy(random.choice(SPECS))
    if random.random() < 0.3:
        return spec
    full = {**schema.BASES["Canary"][0], **{key: spec[key] for key in ("targetRef", "service", "traffic")}}
    told = schema.read("Canary")
    for _ in range(random.choice([1, 1, 2])):
        found = schema.mutant(random, told, full).spec
        full = found if isinstance(found, dict) else full
    return full


def _metric(random: Random) -> Object:
    told, base = schema.read("MetricTemplate"), random.choice(schema.BASES["MetricTemplate"])
    query = random.choice(
        [
            "vector(1)",
            "vector(100)",
            "no_such_metric",
            "sum(((",
            f"{'a' * 2000} {'b' * 2000}",
            'x{a="{{ nothing }}"}',
            "a" * 4096,
            "{{",
        ]
    )
    good: Object = {"query": query, "max": 2}
    found: Object = good if random.random() < 0.6 else schema.mutant(random, told, base).spec
    return found


def _finalizers(random: Random) -> Object:
    return {"finalizers": random.choice([None, None, [], ["example.com/theirs"], ["example.com/theirs", "serinus.dev/traffic"]])}


KINDS: dict[str, tuple[int, Callable[[Random], Any]]] = {
    # weight, how
    "ship": (10, _env),
    "revert": (3, lambda _: None),
    "template": (4, _template),
    "deployment": (5, _deployment),
    "labels": (5, _labels),
    "replace deployment": (2, lambda r: {"MESSAGE": f"v{r.randint(1, 5)}"}),
    "delete deployment": (1, lambda r: r.choice(["Background", "Foreground", "Orphan"])),
    "service": (3, _service),
    "delete service": (1, lambda _: None),
    "route": (4, _rules),
    "put route back": (2, lambda _: None),
    "delete route": (1, lambda _: None),
    "spec": (8, _spec),
    "command": (8, lambda r: (r.choice(["resume", "abort", "retry"]), r.choice((*ODD, *["{release}", "{release}/1"] * 6)))),
    "canary labels": (1, lambda r: {"labels": {"x": r.choice(["y", None])}, "annotations": {"note": "🐤" * 100}}),
    "finalizers": (2, _finalizers),
    "second canary": (2, lambda r: r.choice(SPECS)),
    "delete second": (1, lambda _: None),
    "delete canary": (2, lambda r: r.choice(["Background", "Foreground", "Orphan"])),
    "create canary": (3, lambda r: r.choice(SPECS)),
    "delete canary's deployment": (1, lambda _: None),
    "delete canary's service": (1, lambda _: None),
    "scale canary's deployment": (1, lambda r: {"replicas": r.randint(0, 3)}),
    "foreign service": (1, lambda _: None),
    "delete release": (1, lambda _: None),
    "metric template": (3, _metric),
    "delete metric template": (1, lambda _: None),
    "delete pods": (1, lambda r: r.choice(["canary", ""])),
    "autoscaler": (1, lambda r: {"minReplicas": r.randint(1, 2), "maxReplicas": 3}),
    "budget": (1, lambda r: {"maxUnavailable": r.choice([0, 1, "50%"])}),
}


def dice(seed: int, number: int) -> Random:
    """What the shop of this number is decided by."""
    return Random(f"{seed}/{number}")  # noqa: S311  # nothing here is a secret


def plan(random: Random) -> list[Act]:
    """What is done to one shop."""
    kinds = random.choices(list(KINDS), [weight for weight, _ in KINDS.values()], k=random.randint(5, 14))
    return [Act(random.choice([0, 0, 0.2, 0.5, 1, 2, 3, 5]), kind, KINDS[kind][1](random)) for kind in kinds]


# ---- doing it ----


class Shop:
    """A namespace with a Deployment, a Service, a route and a Canary, each called NAME."""

    def __init__(self, space: str, by_pods: bool) -> None:
        self.space, self.by_pods = space, by_pods
        #: Of the user's HPA; None: there is none.
        self.floor: int | None = None
        #: How the API server's last answer differs from what the schema says.
        self.doubt = ""
        self._acts: dict[str, Callable[[Any], Answer]] = {
            "ship": self._ship,
            "revert": lambda _: self._ship({"MESSAGE": "v1"}),
            "template": lambda how: self._patch("deployment", {"spec": {"template": how}}, STRATEGIC),
            "deployment": lambda how: self._patch("deployment", {"spec": how}),
            "labels": lambda how: self._patch("deployment", {"metadata": how}),
            "replace deployment": self._replace,
            "delete deployment": lambda how: api.delete("deployment", self.space, NAME, how),
            "service": lambda how: self._patch("service", how),
            "delete service": lambda _: api.delete("service", self.space, NAME),
            "route": lambda how: self._patch("httproute", how, JSON_PATCH),
            "put route back": lambda _: api.put("httproute", self.space, shop.route(NAME, self.space)),
            "delete route": lambda _: api.delete("httproute", self.space, NAME),
            "spec": self._spec,
            "command": lambda how: self._patch("canary", {"metadata": {"annotations": {f"serinus.dev/{how[0]}": how[1]}}}),
            "canary labels": lambda how: self._patch("canary", {"metadata": how}),
            "finalizers": lambda how: self._patch("canary", {"metadata": how}),
            "second canary": lambda how: api.create("canary", self.space, self.canary(how, SECOND)),
            "delete second": lambda _: api.delete("canary", self.space, SECOND),
            "delete canary": lambda how: api.delete("canary", self.space, NAME, how),
            "create canary": lambda how: api.create("canary", self.space, self.canary(how)),
            "delete canary's deployment": lambda _: api.delete("deployment", self.space, f"{NAME}-canary"),
            "delete canary's service": lambda _: api.delete("service", self.space, f"{NAME}-canary"),
            "scale canary's deployment": lambda how: api.patch("deployment", self.space, f"{NAME}-canary", {"spec": how}),
            "foreign service": lambda _: api.create(
                "service", self.space, _called(shop.service(NAME, self.space), f"{NAME}-canary")
            ),
            "delete release": lambda _: api.delete("release", self.space, self.release()),
            "metric template": lambda how: self._judged("MetricTemplate", "depth", how),
            "delete metric template": lambda _: api.delete("metrictemplate", self.space, "depth"),
            "delete pods": self._delete_pods,
            "autoscaler": self._autoscaler,
            "budget": self._budget,
        }

    def do(self, act: Act) -> Answer:
        """It is done; the answer may well be a refusal."""
        self.doubt = ""
        return self._acts[act.what](self._named(act.how))

    def _named(self, how: Any) -> Any:
        """With the newest Release's name in the place of {release}."""
        text = json.dumps(how)
        return json.loads(text.replace("{release}", self.release())) if "{release}" in text else how

    def release(self) -> str:
        """The newest one's name."""
        found = sorted(api.items("release", self.space), key=lambda release: release["spec"]["requestedAt"])
        return str(found[-1]["metadata"]["name"]) if found else "none"

    def canary(self, spec: Object, name: str = NAME) -> Object:
        """A Canary with this spec, and the router that this shop has."""
        return self._thing("Canary", name, {**spec, "traffic": BY_PODS} if self.by_pods else spec)

    def _thing(self, kind: str, name: str, spec: Any) -> Object:
        metadata = {"name": name, "namespace": self.space}
        return {"apiVersion": "serinus.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}

    def deployment(self, env: Object) -> Object:
        """The user's manifest."""
        return shop.deployment(NAME, self.space, 1, **{"DRAIN": "0s", **env})

    def _patch(self, kind: str, body: Any, content: str = MERGE) -> Answer:
        return api.patch(kind, self.space, NAME, body, content)

    def _ship(self, env: Object) -> Answer:
        entries = self.deployment(env)["spec"]["template"]["spec"]["containers"][0]["env"]
        body = {"spec": {"template": {"spec": {"containers": [{"name": "shop", "env": [{"$patch": "replace"}, *entries]}]}}}}
        return self._patch("deployment", body, STRATEGIC)

    def _replace(self, env: Object) -> Answer:
        """With a manifest that knows nothing of Serinus."""
        body = self.deployment(env)
        del body["metadata"]["labels"]
        return api.put("deployment", self.space, body)

    def _spec(self, spec: Object) -> Answer:
        if self.by_pods and "traffic" in spec:
            spec = {**spec, "traffic": BY_PODS}
        return self._judged("Canary", NAME, spec)

    def _judged(self, kind: str, name: str, spec: Any) -> Answer:
        """Replaced, or made where there is none; the answer is held against what the schema says."""
        body = self._thing(kind, name, spec)
        while True:
            old = (api.get(kind.lower(), self.space, name) or {}).get("spec")
            answer = api.put(kind.lower(), self.space, body)
            if answer.code != 409 or "modified" not in answer.message:
                break  # the operator may write in between
        self.doubt = schema.disagreement(kind, spec, old, answer.code, answer.message, answer.body.get("spec"))
        return answer

    def _delete_pods(self, role: str) -> Answer:
        path = api.PATHS["pod"].format(self.space)
        return api.ask("DELETE", path, labelSelector=f"serinus.dev/role={role}" if role else "!serinus.dev/role")

    def _autoscaler(self, limits: Object) -> Answer:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
        metadata = {"name": NAME, "namespace": self.space}
        spec = {"scaleTargetRef": target, **limits}
        answer = api.create("hpa", self.space, _plain("autoscaling/v2", "HorizontalPodAutoscaler", metadata, spec))
        if answer.ok:
            self.floor = limits["minReplicas"]
        return answer

    def _budget(self, limits: Object) -> Answer:
        spec = {"selector": {"matchLabels": {"app": NAME}}, **limits}
        metadata = {"name": NAME, "namespace": self.space}
        return api.create("pdb", self.space, _plain("policy/v1", "PodDisruptionBudget", metadata, spec))

    # ---- before and after ----

    def open(self, spec: Object) -> None:
        """The namespace and all in it. Raises AssertionError if something of it is refused."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.space}}
        template = self._thing("MetricTemplate", "depth", {"query": "vector(1)", "max": 2})
        things = [("deployment", self.deployment({"MESSAGE": "v1"})), ("service", shop.service(NAME, self.space))]
        things += [("httproute", shop.route(NAME, self.space)), ("metrictemplate", template), ("canary", self.canary(spec))]
        for kind, thing in [("namespace", body), *things]:
            answer = api.create(kind, self.space, thing)
            assert answer.ok, f"{kind}: {answer.message}"

    def look(self) -> Space:
        """What is there."""
        kinds = ("canary", "release", "deployment", "service", "pdb", "httproute")
        return Space(NAME, *(api.items(kind, self.space) for kind in kinds))

    def oddities(self) -> list[str]:
        """What no page names."""
        return oddities(self.look())

    def mend(self) -> list[str]:
        """Everything as a user would have it, and a last version; what was refused, to be tried again."""
        refused = []
        api.delete("canary", self.space, SECOND)
        foreign = api.get("service", self.space, f"{NAME}-canary")
        if foreign and "serinus.dev/owned-by" not in (foreign["metadata"].get("labels") or {}):
            api.delete("service", self.space, f"{NAME}-canary")
        theirs = api.get("canary", self.space, NAME)
        if theirs and "example.com/theirs" in (theirs["metadata"].get("finalizers") or []):
            kept = [name for name in theirs["metadata"]["finalizers"] if name != "example.com/theirs"]
            self._patch("canary", {"metadata": {"finalizers": kept}})
        for kind, body in (("service", shop.service(NAME, self.space)), ("httproute", shop.route(NAME, self.space))):
            if not self._as_wanted(kind, body):
                refused.append(api.put(kind, self.space, body).message)
        final = self.deployment({"MESSAGE": "final"})
        now = api.get("deployment", self.space, NAME)
        if now is None or not alike(final["spec"], now["spec"]) or now["metadata"].get("labels") != final["metadata"]["labels"]:
            answer = api.put("deployment", self.space, final)
            if "serinus-freeze" in answer.message and not self.look().active():  # somebody froze it by hand
                self._patch("deployment", {"metadata": {"annotations": {"serinus.dev/promoting": None}}})
            refused.append(answer.message)
        if theirs and "deletionTimestamp" in theirs["metadata"]:
            refused.append("the Canary is being deleted")
        elif not alike(self.canary(PLAIN)["spec"], (theirs or {}).get("spec")):
            refused.append(api.put("canary", self.space, self.canary(PLAIN)).message)
        return [message for message in refused if message]

    def _as_wanted(self, kind: str, body: Object) -> bool:
        now = api.get(kind, self.space, NAME)
        if now is None:
            return False
        if kind == "httproute":
            return _bare(now["spec"]) == _bare(body["spec"])
        return alike(body["spec"], now["spec"]) and now["spec"]["selector"] == body["spec"]["selector"]

    def content(self) -> list[str]:
        """What is missing until the last version serves under a content Canary."""
        refused = self.mend()
        odd = self.oddities()
        canary = api.get("canary", self.space, NAME) or {}
        deployment = api.get("deployment", self.space, NAME) or {}
        if canary.get("status", {}).get("phase") != "Stable":
            odd.append(f"the Canary is {canary.get('status', {}).get('phase')}: {canary.get('status', {}).get('why')}")
        status = deployment.get("status", {})
        if status.get("updatedReplicas") != 1 or status.get("availableReplicas") != 1 or status.get("replicas") != 1:
            odd.append(f"the last version is not rolled out: {status}")
        return [*(f"refused: {message}" for message in refused), *odd]

    def let_go(self) -> list[str]:
        """What is still there of Serinus although the Canary is deleted."""
        canary = api.get("canary", self.space, NAME)
        if canary is not None:
            if "deletionTimestamp" not in canary["metadata"]:
                api.delete("canary", self.space, NAME)
            return [f"the Canary is still there: {canary.get('status', {}).get('phase')} {canary['metadata'].get('finalizers')}"]
        odd = oddities(self.look(), let_go=True)
        route, now = shop.route(NAME, self.space), api.get("httproute", self.space, NAME) or {"spec": {}}
        if "canary" in json.dumps(now["spec"]) or _bare(route["spec"]) != _bare(now["spec"]):
            odd.append(f"the route is not as it was: {now['spec']}")
        hpa = api.get("hpa", self.space, NAME)
        if hpa and hpa["spec"].get("minReplicas") != self.floor:
            odd.append(f"the autoscaler's minReplicas is {hpa['spec'].get('minReplicas')}, and was {self.floor}")
        return odd

    def close(self) -> None:
        """The namespace goes; finalizers that are left by then are left by a fault, and taken off."""
        for canary in api.items("canary", self.space):
            api.delete("canary", self.space, canary["metadata"]["name"])
        deadline = time.monotonic() + 15
        while api.items("canary", self.space) and time.monotonic() < deadline:
            time.sleep(0.3)
        for canary in api.items("canary", self.space):
            api.patch("canary", self.space, canary["metadata"]["name"], {"metadata": {"finalizers": None}})
        api.delete("namespace", "", self.space)


def alike(wanted: Any, now: Any) -> bool:
    """All of `wanted` is in `now`, which may have defaults beside it. Lists are as long."""
    if isinstance(wanted, dict):
        return isinstance(now, dict) and all(key in now and alike(value, now[key]) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(now, list) and len(wanted) == len(now) and all(map(alike, wanted, now))
    return bool(wanted == now)


def _bare(spec: Object) -> Any:
    """A route's spec without what the API server fills in, and without the canary and the weights beside it."""
    rules = []
    for rule in spec.get("rules") or []:
        refs = rule.get("backendRefs") or []
        own = [(ref["name"], ref.get("port"), ref.get("weight", 1)) for ref in refs if ref["name"] != f"{NAME}-canary"]
        released = len(own) < len(refs) and any(ref.get("weight", 1) for ref in refs)
        rules.append(([(name, port, 1 if released else weight) for name, port, weight in own], rule.get("filters")))
    return rules, [ref["name"] for ref in spec.get("parentRefs") or []], spec.get("hostnames")


def _called(body: Object, name: str) -> Object:
    return {**body, "metadata": {**body["metadata"], "name": name}}


def _plain(version: str, kind: str, metadata: Object, spec: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
