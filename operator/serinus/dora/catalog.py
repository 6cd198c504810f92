"""Who has what: a service's team, repository and paths; and names that different tools write differently. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import parse_qs, unquote

from serinus.dora.facts import Fact, IncidentSays, Known, ReleaseSays

_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://(?:[^/@]*@)?[^/]*/|[^/@]+@[^/:]+:)", re.IGNORECASE)
_DIGEST = re.compile(r"@?([a-z0-9+._-]+:[0-9a-f]{32,})$")


@dataclass(frozen=True, slots=True)
class Service:
    """What nobody says in an event. `paths`: its directories and files in a repository that others share; none: all of it.

    `also`: what other tools call it, such as a forge `checkout`, or those who are on call `Checkout (web)`.
    """

    team: str = ""
    repository: str = ""
    paths: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def owns(self, path: str) -> bool:
        """Whether `path`, from the repository's root, lies in one of its paths."""
        return any(path == own or path.startswith(f"{own}/") for own in (p.strip("/") for p in self.paths))


@dataclass(frozen=True, slots=True)
class Catalog:
    """The services by name, and what counts.

    `production`: the environments that count where a scope names none; empty: all of them. `blame_within`: seconds after the
    beginning of its exposure, or of its promotion, for which a release is blamed for incidents that name none.
    """

    services: Mapping[str, Service] = field(default_factory=dict)
    production: frozenset[str] = frozenset()
    blame_within: int = 3600

    def __post_init__(self) -> None:
        """Raises ValueError where one name would lead to two services: in silence, the one that is listed last would have all."""
        known = {name: name for name in self.services}
        for name, service in self.services.items():
            for also in service.also:
                if known.setdefault(also, name) != name:
                    raise ValueError(f"{also} is {known[also]}, and {name} is also called that: a name leads to one service")

    def service(self, name: str) -> Service:
        """What is known of it; a service that is not in the catalog has no team, repository or paths."""
        return self.services.get(name, _UNKNOWN)

    def named(self, facts: Iterable[Fact]) -> list[Fact]:
        """The facts with each service by the name that it has here."""
        names = {also: name for name, service in self.services.items() for also in service.also}
        return [_renamed(fact, names) for fact in facts] if names else list(facts)

    def counts(self, environment: str) -> bool:
        """Whether it is production, as far as anybody has said."""
        return not self.production or not environment or environment in self.production

    def repository(self, release: Known[ReleaseSays]) -> str:
        """Where its code is: what the catalog says, else what the release says."""
        return repository_name(self.service(release.says.service).repository or release.says.repository)


_UNKNOWN = Service()


def _renamed(fact: Fact, names: Mapping[str, str]) -> Fact:
    says = fact.says
    if isinstance(says, ReleaseSays | IncidentSays) and says.service in names:
        return fact.model_copy(update={"says": says.model_copy(update={"service": names[says.service]})})
    return fact


@lru_cache(maxsize=4096)
def repository_name(written: str) -> str:
    """``git@github.com:Acme/shop.git``, ``https://github.com/acme/shop`` and ``acme/shop`` are one: ``acme/shop``."""
    address = _ADDRESS.match(written)
    path = written[address.end() :] if address else written
    parts = path.strip("/").removesuffix(".git").lower().split("/")
    if len(parts) > 2 and "." in parts[0]:
        parts = parts[1:]
    return "/".join(parts)


def artifact_names(written: str) -> tuple[str, ...]:
    """The names by which an artifact can be told, the surest first: its digest; what was written; ``repository:tag``.

    `written` is a package URL (https://github.com/package-url/purl-spec, type oci), an image reference or a digest.
    """
    if not written:
        return ()
    rest, _, query = written.partition("?")
    if not written.startswith("pkg:"):
        digest = _DIGEST.search(rest)
        return (*([digest[1]] if digest else []), written)
    digest = _DIGEST.search(unquote(rest))
    qualifiers = parse_qs(query)
    image = [f"{where}:{tag}" for where in qualifiers.get("repository_url", []) for tag in qualifiers.get("tag", [])]
    return (*([digest[1]] if digest else []), written, *image)


def version_name(artifact: str, commit: str) -> str:
    """For people: the image's tag, or the beginning of its digest or of the commit; '' where nothing is known."""
    path = unquote(artifact.partition("?")[0])
    tags = parse_qs(artifact.partition("?")[2]).get("tag", []) if artifact.startswith("pkg:") else []
    tag = tags[0] if tags else path.partition("@")[0].rpartition("/")[2].partition(":")[2]
    digest = _DIGEST.search(path)
    return tag or (digest[1].rpartition(":")[2][:12] if digest else commit[:7])
