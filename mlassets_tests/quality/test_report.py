import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from mlassets.quality.displays import Figure, Table, Text
from mlassets.quality.report import MAX_BYTES, render_figure, render_report
from mlassets.quality.steps import release_round_trips, segments_are_covered
from mlassets.quality.suites import Judgement, judge_draw
from mlassets_tests.quality.recipes import draw
from resources.verdicts import Verdict

HOSTILE = "<script>alert(1)</script>"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Scripts(HTMLParser):
    """Collects the scripts of a page, and every attribute that could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[tuple[str, str]] = []
        self.loads: list[str] = []
        self.policy = ""
        self._open: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "script":
            self._open = given.get("type", "text/javascript")
            self.scripts.append((self._open, ""))
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        self.loads += [value for name, value in given.items() if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            kind, text = self.scripts.pop()
            self.scripts.append((kind, text + data))

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._open = None


def parsed(page: bytes) -> Scripts:
    parser = Scripts()
    parser.feed(page.decode())
    parser.close()
    return parser


@pytest.fixture(scope="module")
def page() -> bytes:
    table = draw("binary", 400)
    table = table.rename_columns([HOSTILE if name == "colour" else name for name in table.column_names])
    judgement = judge_draw(table, target="target", task="binary", limits={}, key=["key"])
    assert any(isinstance(item, Figure) for shown in judgement.displays.values() for item in shown)
    return render_report(judgement, title=f"draw_data {HOSTILE}", rows=[("partition", HOSTILE)])


def test_a_page_is_small_loads_nothing_and_runs_only_its_own_scripts(page: bytes) -> None:
    found = parsed(page)
    assert len(page) < MAX_BYTES
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in found.loads)
    run = [text for kind, text in found.scripts if kind == "text/javascript"]
    assert len(run) == 2
    for text in run:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in found.policy
    assert found.policy.startswith("default-src 'none'")


def test_a_hostile_column_name_stays_text(page: bytes) -> None:
    assert HOSTILE.encode() not in page
    assert b"&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_plotly_is_inlined_once_and_only_where_there_is_a_figure(page: bytes) -> None:
    assert sum(len(text) > 1_000_000 for _, text in parsed(page).scripts) == 1
    plain = render_report([segments_are_covered(["a"], ["a"])], title="aggregate")
    assert parsed(plain).scripts == []
    assert len(plain) < 20_000


def test_verdicts_alone_are_reported_blocking_ones_first() -> None:
    verdicts = [
        segments_are_covered(["a"], ["a"]),
        segments_are_covered(["a", "b"], ["a"]),
        release_round_trips(0.5, 9),
    ]
    text = render_report(iter(verdicts), title="publish", pictures={"curve <b>": PNG}).decode()
    claims = re.findall(r'<td class="claim"><a href="#(\w+)"', text)
    assert claims[0] == "release_round_trips"
    assert "failed, blocks" in text
    assert "data:image/png;base64," in text
    assert "curve &lt;b&gt;" in text


def test_a_claim_that_occurs_twice_has_two_places_to_go_to() -> None:
    verdicts = [segments_are_covered(["a", "b"], ["a"]), segments_are_covered(["a"], ["a"])]
    text = render_report(verdicts, title="review").decode()
    anchors = re.findall(r'href="#(\w+)"', text)
    assert anchors == ["segments_are_covered", "segments_are_covered_2"]
    assert [text.count(f'id="{anchor}"') for anchor in anchors] == [1, 1]


def test_a_figure_cannot_end_the_element_that_holds_it() -> None:
    verdict = Verdict(
        "c", "failed", "WARN", 1.0, "<= 0", 1, "m", {"column": HOSTILE, "shares": {HOSTILE: 0.5}}
    )
    figure = Figure(
        {"data": [{"name": HOSTILE}], "layout": {"title": {"text": "</script><img src=x onerror=alert(1)>"}}}
    )
    table = Table((HOSTILE,), ((HOSTILE,),))
    page = render_report(Judgement((verdict,), {"c": (figure, table, Text(HOSTILE))}), title="t")
    assert HOSTILE.encode() not in page
    assert b"<img src=x" not in page
    assert len([kind for kind, _ in parsed(page).scripts if kind == "application/json"]) == 1


def test_what_does_not_fit_is_left_out_with_a_note() -> None:
    page = render_report([release_round_trips(0, 1)], title="t", pictures={"huge": b"\0" * 7_000_000})
    assert len(page) < MAX_BYTES
    assert b"did not fit" in page


def test_a_figure_that_is_no_number_is_shown_as_it_is() -> None:
    verdicts = [
        Verdict(f"c{number}", "failed", "WARN", value, "<= 0", 1, "m", {"a": value})
        for number, value in enumerate((float("nan"), float("inf"), 12.0))
    ]
    page = render_report(verdicts, title="t").decode()
    assert re.findall(r'<td class="number">(nan|inf|12)</td>', page) == ["nan", "inf", "12"]


def test_one_figure_is_a_page_of_its_own() -> None:
    page = render_figure({"data": [{"name": HOSTILE}]}, title=HOSTILE)
    found = parsed(page)
    assert HOSTILE.encode() not in page
    assert [kind for kind, _ in found.scripts] == ["application/json", "text/javascript", "text/javascript"]
    assert found.policy.startswith("default-src 'none'")
