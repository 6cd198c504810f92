"""Results of tests and coverage, uploaded as files."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bodies import SECRET, sha

from serinus.dora.facts import CASES, Case, CoverageSays, Fact, TestsSays
from serinus.dora.intake import READERS, Refused, Settings, uploads

BESIDE = {
    "X-Serinus-Repository": "https://github.com/Shop/Checkout.git",
    "X-Serinus-Commit": sha("a"),
    "X-Serinus-Suite": "unit",
    "X-Serinus-Received": "2026-11-27T09:00:00Z",
}
SUREFIRE = b"""<?xml version="1.0" encoding="UTF-8"?>
<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" name="shop.PriceTest" time="1,234.5" tests="5">
  <properties><property name="os.name" value="Linux"/></properties>
  <testcase name="adds" classname="shop.PriceTest" time="0.25"/>
  <testcase name="rounds" classname="shop.PriceTest" time="1.5"><failure message="1 is not 2">at\xc3\xbc</failure></testcase>
  <testcase name="waits" classname="shop.PriceTest" time="3"><flakyFailure message="late"/><system-out>..</system-out></testcase>
  <testcase name="breaks" classname="shop.PriceTest" time="0.1"><error/><rerunFailure message="again"/></testcase>
  <testcase name="sleeps" classname="shop.PriceTest"><skipped/></testcase>
</testsuite>"""


def read(reader: str, body: bytes, **beside: str) -> Fact:
    headers = BESIDE | {f"X-Serinus-{name.title()}": value for name, value in beside.items()}
    (fact,) = READERS[reader].facts(headers, body, Settings())
    assert Fact.parse(json.loads(json.dumps(fact.dump()))) == fact
    return fact


def junit_of(body: bytes, **beside: str) -> TestsSays:
    says = read("junit", body, **beside).says
    assert isinstance(says, TestsSays)
    return says


def covered(body: bytes, **beside: str) -> CoverageSays:
    says = read("coverage", body, **beside).says
    assert isinstance(says, CoverageSays)
    return says


# --- JUnit


def test_what_surefire_writes():
    says = junit_of(SUREFIRE, job="test", run="77", branch="main")
    assert (says.repository, says.commit, says.suite) == ("github.com/shop/checkout", sha("a"), "unit")
    assert (says.job, says.run, says.branch) == ("test", "77", "main")
    assert (says.tests, says.failed, says.skipped, says.flaky, says.milliseconds) == (5, 2, 1, 1, 1_234_500)
    outcomes = {case.name.removeprefix("shop.PriceTest."): (case.outcome, case.milliseconds) for case in says.cases}
    assert outcomes == {
        "adds": ("passed", 250),
        "rounds": ("failed", 1500),
        "waits": ("flaky", 3000),
        "breaks": ("failed", 100),
        "sleeps": ("skipped", 0),
    }


def test_the_suite_is_named_by_the_file_where_nobody_else_does():
    assert junit_of(SUREFIRE, suite="").suite == "shop.PriceTest"
    assert junit_of(b'<testsuites><testsuite name="a"/><testsuite name="b"/></testsuites>', suite="").suite == "a"


def test_how_long_it_took_is_the_outermost_that_says_so():
    inner = b'<testsuite name="x" time="2"><testsuite name="y" time="1.5"/></testsuite><testsuite name="z" time="3"/>'
    assert junit_of(b'<testsuites time="4">' + inner + b"</testsuites>").milliseconds == 4000
    assert junit_of(b"<testsuites>" + inner + b"</testsuites>").milliseconds == 5000
    bare = b'<testsuite name="x"><testcase name="a" time="1"/><testcase name="b" time="0.5"/></testsuite>'
    assert junit_of(bare).milliseconds == 1500


def test_a_test_that_is_there_twice_is_flaky_if_it_passed_at_last():
    def twice(first: bytes, second: bytes) -> Case:
        case = b'<testcase classname="c" name="n" time="1">%s</testcase>'
        (found,) = junit_of(b"<testsuite>" + case % first + case % second + b"</testsuite>").cases
        return found

    assert twice(b"<failure/>", b"") == Case(name="c.n", outcome="flaky", milliseconds=2000)
    assert twice(b"", b"<failure/>").outcome == "failed"
    assert twice(b"<failure/>", b"<failure/>").outcome == "failed"
    assert twice(b"", b"").outcome == "passed"


def test_of_many_tests_the_slowest_and_the_bad_ones_are_told():
    cases = [b'<testcase classname="c" name="n%05d" time="%d"/>' % (n, n) for n in range(9000)]
    cases += [b'<testcase classname="f" name="n%05d"><failure/></testcase>' % n for n in range(5000)]
    cases += [b'<testcase classname="k" name="n%05d"><flakyError/></testcase>' % n for n in range(5000)]
    says = junit_of(b"<testsuite>" + b"".join(cases) + b"</testsuite>")
    assert (says.tests, says.failed, says.flaky, len(says.cases)) == (19_000, 5000, 5000, CASES)
    assert {case.name for case in says.cases if case.outcome == "passed"} == {f"c.n{n:05}" for n in range(8950, 9000)}
    assert len(says.model_dump_json()) < 60_000


def test_the_digest_tells_whether_the_same_tests_ran():
    def ran(*names: str, skipped: str = "") -> str:
        cases = "".join(f'<testcase name="{n}" time="1">{"<skipped/>" if n == skipped else ""}</testcase>' for n in names)
        return junit_of(f"<testsuite>{cases}</testsuite>".encode()).ran

    assert ran("a", "b") == ran("b", "a") != ran("a", "c")
    assert ran("a", "b", skipped="b") == ran("a")
    assert ran() == ""


def test_long_names_are_cut_and_still_told_apart():
    cases = "".join(f'<testcase name="{"x" * 5000}{n}"/>' for n in range(3)).encode()
    says = junit_of(b'<testsuite name="' + b"s" * 9000 + b'">' + cases + b"</testsuite>", suite="")
    assert len({case.name for case in says.cases}) == 3
    assert max(len(case.name) for case in says.cases) < 512
    assert len(says.suite) < 512


def test_the_same_upload_is_a_repeat_and_another_run_of_the_same_tests_is_not():
    first = read("junit", SUREFIRE)
    assert (first.id, first.key) == ((again := read("junit", SUREFIRE, Received="2026-11-27T10:00:00Z")).id, again.key)
    assert read("junit", SUREFIRE, run="2").id != first.id
    assert read("junit", SUREFIRE, at="2026-11-20T10:00:00+01:00").at.isoformat() == "2026-11-20T09:00:00+00:00"


# --- coverage

COBERTURA = b"""<?xml version="1.0" ?>
<!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">
<coverage version="7" line-rate="0.5" branch-rate="0"%s>
 <packages><package name="p"><classes>
  <class name="a" filename="a.py"><methods><method><lines><line number="9" hits="5"/></lines></method></methods>
   <lines><line number="1" hits="1"/><line number="2" hits="0" branch="true" condition-coverage="50%% (1/2)"/></lines></class>
  <class name="a$1" filename="a.py"><lines><line number="1" hits="0"/></lines></class>
 </classes></package></packages>
</coverage>"""


def test_cobertura_by_its_head():
    head = b' lines-valid="200" lines-covered="150" branches-valid="10" branches-covered="4"'
    says = covered(COBERTURA % head, part="checkout")
    assert (says.lines, says.lines_covered, says.branches, says.branches_covered) == (200, 150, 10, 4)
    assert read("coverage", COBERTURA % head, part="checkout").key == f"github.com/shop/checkout@{sha('a')}/checkout"


def test_cobertura_by_its_lines_where_the_head_says_nothing():
    says = covered(COBERTURA % b"")
    assert (says.lines, says.lines_covered, says.branches, says.branches_covered) == (2, 1, 2, 1)
    says = covered(COBERTURA % b' lines-valid="7"')
    assert (says.lines, says.lines_covered) == (2, 1)


def test_lcov_by_its_lines_and_by_its_counts():
    text = b"TN:\nSF:a.c\nDA:1,5\nDA:2,0\nBRDA:1,0,0,1\nBRDA:1,0,1,-\nLF:2\nLH:1\nend_of_record\n"
    says = covered(text)
    assert (says.lines, says.lines_covered, says.branches, says.branches_covered) == (2, 1, 2, 1)
    twice = covered(text + b"SF:a.c\nDA:1,0\nDA:2,3,abc\nend_of_record\nSF:b.c\r\nLF:10\r\nLH:4\r\nend_of_record\r\n")
    assert (twice.lines, twice.lines_covered) == (12, 6), "a file that is there twice is one"
    assert covered(b"SF:a.c\nLF:10\nLH:4\nend_of_record\n").branches is None


# --- what is wrong

BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><testsuite name="&b;"/>"""
OUTSIDE = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><testsuite>&a;</testsuite>"""
PARAMETER = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1:1/x.dtd">%a;]><testsuite/>"""


@pytest.mark.parametrize(
    ("reader", "body", "reason"),
    [
        ("junit", BOMB, "400: the file declares entities"),
        ("junit", OUTSIDE, "400: the file declares entities"),
        ("junit", PARAMETER, "400: the file declares entities"),
        ("coverage", BOMB.replace(b"testsuite", b"coverage"), "400: the file declares entities"),
        ("junit", b"<a>" * 100_000, "422: .*<testsuites> or <testsuite> was expected"),
        ("junit", b"<testsuite>" * 100_000, "400: the file is nested deeper than 64"),
        ("junit", b"<testsuite>" + b"<a/>" * 500_001, "413: the file has more than 500000 elements"),
        ("junit", b"<testsuite>" + b" " * uploads.LARGEST, "413: the file has 8388619 bytes"),
        ("junit", b"", "400: the file is no XML"),
        ("junit", b"\x00\x01", "400: the file is no XML"),
        ("junit", b"<testsuite>", "400: the file is no XML"),
        ("junit", b'<?xml version="1.0" encoding="ebcdic"?><testsuite/>', "400: the file is no XML"),
        ("junit", b'{"tests": 1}', "400: the file is no XML"),
        ("junit", b"<testsuite><testcase/></testsuite>", "422: testcase 1: it has no name"),
        ("junit", b'<testsuite><testcase name="a" time="-1"/></testsuite>', "422: testcase a: time: seconds such as"),
        ("junit", b'<testsuite time="1e99"/>', "422: testsuite.time"),
        ("junit", b'<testsuite time="nan"/>', "422: testsuite.time"),
        ("junit", b'<coverage lines-valid="1"/>', "422: .*this is <coverage>"),
        ("coverage", b"<testsuite/>", "422: .*this is <testsuite>"),
        ("coverage", b'<coverage lines-valid="1" lines-covered="2"/>', "422: the file: 2 of 1 lines"),
        ("coverage", b'<coverage lines-valid="x" lines-covered="2"/>', "422: coverage.lines-valid: a whole number"),
        ("coverage", b"", "422: the file is empty"),
        ("coverage", b'{"total": {}}', "415: line 1: Cobertura's XML or LCOV is expected"),
        ("coverage", b"\xff\xff", "400: line 1: it is not text"),
        ("coverage", b"TN:\nDA:1,1\n", "422: line 2: DA stands in no file"),
        ("coverage", b"SF:a\nDA:one\n", "422: line 2: DA:<line>,<hits> is needed"),
        ("coverage", b"SF:a\nBRDA:1,2\n", "422: line 2: BRDA:"),
        ("coverage", b"SF:a\nLF:-2\n", "422: line 2: LF: a whole number"),
    ],
)
def test_files_that_are_refused(reader: str, body: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        read(reader, body)


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"repository": ""}, "422: repository: needed"),
        ({"repository": "https://["}, "422: repository: needed"),
        ({"commit": "HEAD"}, "422: commit: a commit's hash is needed"),
        ({"commit": ""}, "422: commit: a commit's hash is needed"),
        ({"suite": "x" * 600}, "422: suite: a text of at most 512"),
        ({"job": "a\x00b"}, "422: job: a text of at most 512"),
        ({"at": "yesterday"}, "422: at: a moment with its offset"),
        ({"at": "2026-11-27T09:00:00"}, "422: at: a moment with its offset"),
        ({"received": ""}, "422: at: a moment with its offset"),
        ({"repository": "shop/" + "x" * 500}, "422: key: String should have at most 512"),
    ],
)
def test_what_is_wrong_beside_the_file(beside: dict[str, str], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        read("junit", SUREFIRE, **beside)


def test_a_form_is_told_to_be_a_file():
    with pytest.raises(Refused, match="415: the file itself is the body"):
        READERS["junit"].facts(BESIDE | {"content-type": "multipart/form-data; boundary=x"}, SUREFIRE, Settings())


def test_the_query_counts_more_than_headers_and_nobody_but_the_service_says_when_it_was_received():
    given_ = {"x-serinus-suite": "header", "X-Serinus-Received": "1999-01-01T00:00:00Z", "x-serinus-job": "j"}
    found = uploads.headers_of("suite=query%20one&branch=", given_, "2026-11-27T09:00:00Z")
    assert found == {
        "x-serinus-job": "j",
        "X-Serinus-Suite": "query one",
        "X-Serinus-Branch": "",
        "X-Serinus-Received": "2026-11-27T09:00:00Z",
    }
    with pytest.raises(Refused, match="'comit' is nothing that is known of"):
        uploads.headers_of("comit=1", {}, "")
    with pytest.raises(Refused, match="'suite' is twice in"):
        uploads.headers_of("suite=1&suite=2", {}, "")


def test_only_whoever_has_the_secret():
    for reader in ("junit", "coverage"):
        with pytest.raises(Refused, match="401"):
            READERS[reader].receive(BESIDE, SUREFIRE, SECRET)


ELEMENTS = st.recursive(
    st.sampled_from(["<failure/>", "<skipped/>", "<flakyError/>", "text", "<line number='1' hits='1'/>", "<testcase name='x'/>"]),
    lambda inner: st.builds(
        lambda tag, attributes, children: f"<{tag} {attributes}>{''.join(children)}</{tag}>",
        st.sampled_from(["testsuites", "testsuite", "testcase", "coverage", "class", "lines", "p:testcase"]),
        st.sampled_from(["", "name='a'", "name='a' time='1'", "time=''", "lines-valid='3'", "filename='f'"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=20,
)


@given(reader=st.sampled_from(["junit", "coverage"]), body=ELEMENTS | st.text(max_size=60))
def test_any_document_is_read_or_refused(reader: str, body: str) -> None:
    with contextlib.suppress(Refused):
        read(reader, body.encode())


LCOV = ["TN:", "SF:a", "SF:b", "DA:1,0", "DA:1,2", "BRDA:1,0,0,-", "LF:3", "LH:2", "BRF:1", "end_of_record"]


@given(st.lists(st.sampled_from(LCOV)))
def test_any_lcov_is_read_or_refused(lines: list[str]) -> None:
    with contextlib.suppress(Refused):
        says = covered("\n".join(lines).encode())
        assert 0 <= (says.lines_covered or 0) <= (says.lines or 0)
