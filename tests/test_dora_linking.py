"""What belongs together: a release and its changes, an incident and its release."""

from __future__ import annotations

from typing import Any

import pytest
from tests.data.dora.month import at, commit, image, said

from serinus.dora.catalog import Catalog, Service, artifact_names, repository_name
from serinus.dora.commits import Graph, Hashes
from serinus.dora.facts import ArtifactSays, ChangeSays, CommitSays, Fact, IncidentSays, MarkSays, ReleaseSays
from serinus.dora.linking import Blame, Cargo, Knowledge, link_changes, link_incidents

ONE = Catalog({"web": Service("shop", "acme/web")})


def history(*edges: str, repository: str = "acme/web") -> list[Fact]:
    """``b a`` is commit b with parent a; the first of these is the first parent."""
    facts = []
    for edge in edges:
        name, *parents = edge.split()
        says = {"repository": repository, "parents": tuple(map(commit, parents))}
        facts.append(said("git", name, "01 00:00", commit(name), CommitSays, **says))
    return facts


def change(key: str, merge: str = "", merged: str = "", opened: str = "01 00:00", **says: Any) -> Fact:
    more = {"merged": merged} if merged else {}
    says = {"repository": "acme/web", "base": "main", "merge_commit": commit(merge) if merge else ""} | says
    return said("github", key, "01 00:00", key, ChangeSays, opened=opened, **more, **says)


def release(key: str, code: str, promoted: str, service: str = "web", **says: Any) -> Fact:
    says = {"environment": "production", "commit": code, "outcome": "Promoted", "promoted": promoted} | says
    says = {field: value for field, value in says.items() if value}
    return said("serinus", key, "01 00:00", key, ReleaseSays, service=service, **says)


def cargo(facts: list[Fact], catalog: Catalog = ONE) -> dict[str, Cargo]:
    return link_changes(Knowledge.of(facts), catalog)


def carried(facts: list[Fact], catalog: Catalog = ONE) -> dict[str, list[str]]:
    return {key: sorted(c.change for c in of.carried) for key, of in cargo(facts, catalog).items()}


LINE = history("a 0", "b a", "c b", "d c")
FOUR = [change(f"#{name}", name) for name in "abcd"]


def test_the_first_release_does_not_inherit_what_was_there_before() -> None:
    """DevLake 8790."""
    facts = [*LINE, *FOUR, release("r1", commit("c"), "02 09:00"), release("r2", commit("d"), "03 09:00")]
    assert carried(facts) == {"r1": ["#c"], "r2": ["#d"]}


def test_what_a_failed_release_would_have_brought_comes_with_the_next() -> None:
    failed = release("r2", commit("c"), "", exposed="03 09:00", outcome="RolledBack")
    facts = [*LINE, *FOUR, release("r1", commit("a"), "02 09:00"), failed, release("r3", commit("d"), "04 09:00")]
    assert carried(facts) == {"r1": ["#a"], "r2": ["#b", "#c"], "r3": ["#b", "#c", "#d"]}


def test_after_an_undo_the_changes_stay_those_of_the_first_that_had_them() -> None:
    releases = [release(f"r{n}", commit(c), f"0{n + 1} 09:00") for n, c in enumerate("acad", 1)]
    assert carried([*LINE, *FOUR, *releases]) == {"r1": ["#a"], "r2": ["#b", "#c"], "r3": [], "r4": ["#d"]}


def test_a_hotfix_branch_and_what_main_has_after_it() -> None:
    facts = [*history("a 0", "b a", "h a", "m b h", "n m"), *[change(f"#{name}", name) for name in "abhn"]]
    releases = [release(f"r{n}", commit(c), f"0{n + 1} 09:00") for n, c in enumerate("ahn", 1)]
    assert carried(facts + releases) == {"r1": ["#a"], "r2": ["#h"], "r3": ["#b", "#n"]}


def test_what_the_first_release_had_behind_it_stays_there() -> None:
    facts = [*history("a 0", "g a", "h g", "b a", "m b h"), *[change(f"#{name}", name) for name in "aghbm"]]
    releases = [release(f"r{n}", commit(c), f"0{n + 1} 09:00") for n, c in enumerate("hbm", 1)]
    assert carried(facts + releases) == {"r1": ["#h"], "r2": ["#b"], "r3": ["#m"]}


def test_an_undo_behind_the_first_release_does_not_let_years_in_either() -> None:
    merges = [change(f"#{name}", name, f"0{n} 09:00") for n, name in enumerate("abcd", 1)]
    releases = [release(f"r{n}", commit(c), f"1{n} 09:00") for n, c in enumerate("cad", 1)]
    assert carried([*merges, *releases]) == {"r1": ["#c"], "r2": ["#a"], "r3": ["#d"]}


def test_a_change_is_there_with_the_last_of_its_own_commits() -> None:
    names = ["p1", "p2", "p3", "p4", "p5"]
    assert max(names, key=commit) != "p5", "its hash must not be what tells"
    facts = history("p0 0", *[f"p{n} p{n - 1}" for n in range(1, 6)])
    change_of_five = change("#5", "test-merge", commits=tuple(map(commit, names)))
    releases = [release(f"r{n}", commit(f"p{n}"), f"1{n} 09:00") for n in range(6)]
    assert {key for key, changes in carried([*facts, change_of_five, *releases]).items() if changes} == {"r5"}


def test_merge_squash_and_rebase() -> None:
    facts = history("a 0", "f1 0", "f2 f1", "m a f2", "s m", "r1 s", "r2 r1")
    changes = [
        change("#merge", "", commits=(commit("f2"), commit("f1"))),
        change("#squash", "s", commits=(commit("x"),)),
        change("#rebase", "r2", commits=(commit("y1"), commit("y2"))),
        change("#half", "", commits=(commit("r1"), commit("r2"))),
    ]
    ends = [
        release("one", commit("a"), "02 09:00"),
        release("two", commit("r1"), "03 09:00"),
        release("three", commit("r2"), "04 09:00"),
    ]
    assert carried([*facts, *changes, *ends]) == {"one": [], "two": ["#merge", "#squash"], "three": ["#half", "#rebase"]}


def test_a_merged_branch_of_which_only_the_merge_knows() -> None:
    facts = [*history("a 0", "m a f"), change("#1", commits=(commit("f"),))]
    assert carried([*facts, release("r1", commit("a"), "02 09:00"), release("r2", commit("m"), "03 09:00")])["r2"] == ["#1"]


def test_short_hashes_are_the_beginning_of_one_commit() -> None:
    facts = [*LINE, *FOUR, release("r1", commit("a")[:7], "02 09:00"), release("r2", f"main@sha1:{commit('c')[:12]}", "03 09:00")]
    assert carried(facts) == {"r1": ["#a"], "r2": ["#b", "#c"]}
    assert cargo([*facts, release("r3", commit("d")[:6], "04 09:00")])["r3"].tracked is False


def test_a_beginning_that_two_commits_share_is_neither() -> None:
    hashes = Hashes.of([("abcdef01" + "0" * 32, "acme/web"), ("abcdef02" + "0" * 32, "acme/api"), ("abcdef0", "acme/api")])
    assert hashes.full("abcdef0") == ""
    assert hashes.full("ABCDEF0", "acme/web") == "abcdef01" + "0" * 32
    assert hashes.full("abcdef0", "acme/api") == "abcdef02" + "0" * 32, "a short way to write it is no other commit"


def test_a_monorepo_gives_each_service_its_own() -> None:
    catalog = Catalog(
        {"web": Service(repository="acme/web", paths=("web", "lib/")), "api": Service(repository="acme/web", paths=("api",))}
    )
    changes = [
        change("#web", "b", paths=("web/a.py",)),
        change("#both", "c", paths=("lib/x.py", "api/y.py")),
        change("#alike", "d", paths=("website/a.py",)),
    ]
    both = [release(f"{s}{n}", commit(c), f"0{n} 09:00", s) for s in ("web", "api") for n, c in ((1, "a"), (2, "d"))]
    assert carried([*LINE, *changes, *both], catalog) == {"web1": [], "web2": ["#both", "#web"], "api1": [], "api2": ["#both"]}
    unknown = [*LINE, change("#?", "d"), *both]
    assert "its files are not known" in cargo(unknown, catalog)["api2"].carried[0].reason


def test_each_environment_has_its_own_first() -> None:
    ends = [release(f"{e}{n}", commit(c), f"0{n} 09:00", environment=e) for e in ("dev", "prod") for n, c in ((1, "a"), (2, "c"))]
    assert carried([*LINE, *FOUR, *ends]) == {"dev1": ["#a"], "dev2": ["#b", "#c"], "prod1": ["#a"], "prod2": ["#b", "#c"]}


def test_a_manifests_commit_leads_to_the_codes_by_the_artifact() -> None:
    """DevLake 5207."""
    built = [said("ci", n, "01 00:00", image(n), ArtifactSays, repository="acme/web", commit=commit(n)) for n in "ac"]
    gitops = [
        release(f"r{n}", commit(f"manifest{n}"), f"0{i} 09:00", repository="acme/deploy", artifact=image(n) + "?tag=9")
        for i, n in enumerate("ac", 1)
    ]
    known = cargo([*LINE, *FOUR, *built, *gitops], Catalog())
    assert [(c.change, c.how) for c in known["rc"].carried] == [("#c", "artifact"), ("#b", "artifact")]
    assert "built from" in known["rc"].carried[0].reason
    lost = cargo([*LINE, *FOUR, *gitops])["rc"]
    assert (lost.tracked, lost.carried) == (False, ())
    assert "acme/deploy" in lost.reason


def test_without_a_graph_merges_of_the_same_base_in_between() -> None:
    merges = [
        change("#1", "a", "01 09:00"),
        change("#2", "b", "02 09:00"),
        change("#3", "c", "02 10:00", base="release-1"),
        change("#4", "d", "03 09:00"),
        change("#5", "e", "03 09:01"),
        change("#6", "f", "02 12:00", repository="acme/other"),
    ]
    ends = [
        release("r1", commit("a"), "01 10:00"),
        release("r2", commit("d"), "03 10:00"),
        release("r3", commit("e")[:9], "04 09:00"),
    ]
    known = cargo([*merges, *ends])
    assert {key: [c.change for c in of.carried] for key, of in known.items()} == {"r1": ["#1"], "r2": ["#4", "#2"], "r3": ["#5"]}
    assert [c.how for c in known["r2"].carried] == ["commit", "merge time"]


def test_a_hole_in_the_history_does_not_let_years_in() -> None:
    old = [change("#old", "x"), *history("x y")]
    facts = [*old, *history("a 0", "c x"), change("#a", "a"), change("#c", "c")]
    known = cargo([*facts, release("r1", commit("a"), "02 09:00"), release("r2", commit("c"), "03 09:00")])["r2"]
    assert ([c.change for c in known.carried], known.tracked) == (["#c"], False)


def test_a_circle_of_parents_which_only_a_wrong_fact_can_claim_ends() -> None:
    graph = Graph.of({"a": ("b",), "b": ("a",), "c": ("b",)})
    assert [commit in graph for commit in "abc"] == [False, False, False]


def test_a_restart_carries_nothing_and_is_no_release_before() -> None:
    facts = [*LINE, *FOUR, release("r1", commit("a"), "02 09:00"), release("r2", commit("c"), "03 09:00", restart=True)]
    assert carried([*facts, release("r3", commit("c"), "04 09:00")]) == {"r1": ["#a"], "r3": ["#b", "#c"]}


@pytest.mark.parametrize(
    "written",
    [
        "acme/shop",
        "https://github.com/Acme/shop.git",
        "git@github.com:acme/shop.git",
        "ssh://git@host:22/acme/shop/",
        "github.com/acme/shop",
    ],
)
def test_a_repository_by_any_name(written: str) -> None:
    assert repository_name(written) == "acme/shop"


def test_an_artifact_by_any_name() -> None:
    digest = "sha256:" + "ab" * 32
    assert (
        artifact_names(f"reg/app:2@{digest}")[0] == artifact_names(f"pkg:oci/app@{digest.replace(':', '%3A')}?tag=2")[0] == digest
    )
    assert "reg/app:2" in artifact_names("pkg:oci/app?repository_url=reg/app&tag=2")
    assert artifact_names("") == ()


# Incidents.


def incident(began: str, service: str = "web", environment: str = "production", **says: Any) -> Fact:
    return said("alerts", "i", "01 00:00", "i", IncidentSays, began=began, service=service, environment=environment, **says)


def mark(name: str, when: str, verdict: str, **says: Any) -> Fact:
    return said("page", name, when, "incident/i", MarkSays, verdict=verdict, **says)


def blame(*facts: Fact, catalog: Catalog = ONE) -> Blame:
    return link_incidents(Knowledge.of(facts), catalog)["i"]


R1 = release("r1", "x", "02 09:30", exposed="02 09:00")
R2 = release("r2", "y", "02 10:00", exposed="02 09:50")


@pytest.mark.parametrize(
    ("began", "expected"),
    [
        ("02 08:59:59", ""),
        ("02 09:00", "r1"),
        ("02 10:29:59", "r1"),
        ("02 10:30", ""),
        ("03 09:00", ""),
    ],
)
def test_an_incident_is_of_the_release_that_users_had_within_the_hour(began: str, expected: str) -> None:
    """DevLake 8150: else of the last one, however old."""
    assert blame(R1, incident(began)).release == expected


@pytest.mark.parametrize(
    ("began", "expected", "confidence"),
    [("02 09:49", "r1", "medium"), ("02 09:55", "r2", "low"), ("02 10:00", "r2", "medium"), ("02 10:05", "r2", "medium")],
)
def test_not_of_one_that_another_has_superseded(began: str, expected: str, confidence: str) -> None:
    found = blame(R1, R2, incident(began))
    assert (found.release, found.confidence) == (expected, confidence)


def test_not_of_one_that_no_user_has_any_more() -> None:
    gone = release("r2", "y", "", exposed="02 09:40", returned="02 09:45", outcome="RolledBack")
    assert blame(R1, gone, incident("02 09:44")).release == "r2"
    assert blame(R1, gone, incident("02 09:45")).release == "r1"
    untold = release("r3", "y", "", exposed="02 09:20", outcome="Superseded")
    after = blame(untold, R2, incident("02 09:51"))
    assert (after.release, after.confidence) == ("r2", "medium")


def test_of_its_own_service_and_environment() -> None:
    assert blame(R1, incident("02 09:10", "api")).release == ""
    assert blame(R1, incident("02 09:10", environment="staging")).release == ""
    assert blame(R1, incident("02 09:10", "")).release == ""
    unsaid = blame(R1, incident("02 09:10", environment=""))
    assert (unsaid.release, unsaid.confidence) == ("r1", "low")
    assert blame(R1, incident("02 09:10", environment=""), catalog=Catalog(production=frozenset({"live"}))).release == ""


def test_a_restart_is_not_blamed() -> None:
    assert blame(release("r1", "x", "02 09:00", restart=True), incident("02 09:10")).release == ""
    assert blame(release("r1", "x", "02 09:00", restart=True), incident("02 09:10", release="r1")).release == ""


def test_an_incident_may_name_its_release_however_old() -> None:
    found = blame(R1, R2, incident("20 09:00", release="r1"))
    assert (found.release, found.confidence) == ("r1", "high")
    assert blame(R1, incident("02 09:10", release="r9")).release == "", "what it names counts, not what is near"


def test_a_persons_last_word_counts_and_is_kept() -> None:
    facts = [R1, R2, incident("02 10:05"), mark("1", "03 09:00", "unrelated", by="ada", reason="DNS")]
    none = blame(*facts)
    assert (none.release, none.mark is not None and (none.mark.by, none.mark.reason, none.mark.at)) == (
        "",
        ("ada", "DNS", at("03 09:00")),
    )
    other = blame(*facts, mark("2", "03 10:00", "release", release="r1", by="bob"))
    assert (other.release, other.confidence, other.mark and other.mark.fact) == ("r1", "high", ("page", "2"))
    assert "DNS" not in other.reason, "a reason is of the word that it was given with"
    again = blame(*facts, mark("3", "03 11:00", "unmarked"))
    assert (again.release, again.mark) == ("r2", None)


def test_the_hour_can_be_another() -> None:
    assert blame(R1, incident("02 10:29"), catalog=Catalog(blame_within=600)).release == ""
    assert blame(R1, incident("02 11:29"), catalog=Catalog(blame_within=7200)).release == "r1"
