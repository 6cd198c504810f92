"""Who may: what the API server is asked, what its answers mean, and how long they count. Pure: the time is given.

The right is one on a resource that exists for this only, `deliveries` in the group of the CRDs, in no namespace: the figures are
of all services, so a right in one namespace does not open them. `get` reads; `update` marks, and reads quarantine again.
https://kubernetes.io/docs/reference/access-authn-authz/
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import urlsplit

GROUP, RESOURCE = "serinus.dev", "deliveries"
Verb = Literal["get", "update"]

#: The longest token that is looked at, in bytes. Those of Kubernetes have about one thousand.
LONGEST = 16 * 1024

T = TypeVar("T")
_Object = dict[str, Any]


class Denied(Exception):
    """Says why: 401, nobody is known by what was given; 403, they may not; 503, it cannot be found out now."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def token_review(token: str, audiences: Sequence[str]) -> _Object:
    """Asks whose the token is. Without audiences it has to be one for the API server itself."""
    spec: _Object = {"token": token, **({"audiences": list(audiences)} if audiences else {})}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}


def user_of(answer: Mapping[str, Any], audiences: Sequence[str]) -> _Object:
    """The user of a TokenReview that was answered. Raises Denied(401).

    An API server that knows nothing of audiences names none, and its yes is for another audience than the one asked for.
    """
    status = answer.get("status") or {}
    user: _Object = status.get("user") or {}
    if status.get("authenticated") is not True or not user.get("username"):
        raise Denied(401, "the API server does not know this token: is it cut, expired, or of another cluster or audience?")
    if audiences and not set(audiences) & set(status.get("audiences") or ()):
        raise Denied(401, f"this token is not for {' or '.join(audiences)}: ask for one with --audience={audiences[0]}")
    return user


def access_review(user: Mapping[str, Any], verb: Verb) -> _Object:
    """Asks whether that user has the right."""
    who = {"user": user["username"], **{key: user[key] for key in ("uid", "groups", "extra") if user.get(key)}}
    what = {"resourceAttributes": {"group": GROUP, "resource": RESOURCE, "verb": verb}}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {**who, **what}}


def name_of(user: Mapping[str, Any], answer: Mapping[str, Any], verb: Verb) -> str:
    """The name of the user of a SubjectAccessReview that was answered with yes. Raises Denied(403)."""
    status, name = answer.get("status") or {}, str(user["username"])
    if status.get("allowed") is not True or status.get("denied"):
        role = "reader" if verb == "get" else "editor"
        raise Denied(403, f"{name} may not {verb} {RESOURCE}.{GROUP}: the chart's ClusterRole …-dora-{role} has that right")
    return name


def from_elsewhere(headers: Mapping[str, str]) -> bool | None:
    """Whether a browser sent it for a page of another origin; None where nothing says that a browser sent it.

    As `CrossOriginProtection` of Go's net/http: https://words.filippo.io/csrf/.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site:
        return site not in ("same-origin", "none")
    if origin is None:
        return None
    try:
        there = urlsplit(origin).netloc
    except ValueError:
        return True
    return not there or there != headers.get("host")


def of_this_machine(name: str) -> bool:
    """Whether a host is the machine itself: a loopback address, or localhost."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


class Kept(Generic[T]):
    """Things for so many seconds, so many at most: what was put first goes first. Keys are not kept, only what they hash to."""

    def __init__(self, seconds: float, most: int, clock: Callable[[], float]) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._things: dict[bytes, tuple[float, T]] = {}
        self._salt = secrets.token_bytes(32)

    def __len__(self) -> int:
        return len(self._things)

    def get(self, *key: str) -> T | None:
        """What is there under the key, and is not too old."""
        until, thing = self._things.get(self._hash(key), (0.0, None))
        return thing if self._clock() < until else None

    def put(self, thing: T, *key: str) -> None:
        """From now on."""
        self.drop(*key)
        now = self._clock()
        while self._things:  # in the order of their ends, as all are kept equally long
            oldest = next(iter(self._things))
            if self._things[oldest][0] > now and len(self._things) < self._most:
                break
            del self._things[oldest]
        self._things[self._hash(key)] = (now + self._seconds, thing)

    def drop(self, *key: str) -> None:
        """Forgets it; what is not there is as good."""
        self._things.pop(self._hash(key), None)

    def _hash(self, key: tuple[str, ...]) -> bytes:
        return hashlib.blake2b("\0".join(key).encode(errors="surrogatepass"), key=self._salt).digest()
