"""What the pages say, and under which headers; asked without a browser."""

import json
import re
import shlex
from datetime import timedelta
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from mlassets.pages.rendering import script, style
from mlassets.pages.thing import as_json
from mlassets.pages.things import A_PAGE, EXAMPLES, Asked
from mlassets.ui import reports_app
from mlassets_tests.pages.hostile import ODD, Hostile, hostile
from mlassets_tests.processes import free_port
from mlassets_tests.quality.test_report import HOSTILE, PNG, parsed
from mlassets_tests.small_homes import mlassets
from resources import filters
from resources.lake import open_lake
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition


def client_of(store: Store, dagster: str | None = None) -> TestClient:
    app = reports_app(store, "127.0.0.1", dagster)
    return TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    return hostile(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def client(bad: Hostile) -> TestClient:
    return client_of(bad.store, "http://127.0.0.1:3000/")


@pytest.fixture
def plain(tmp_path: Any) -> Store:
    """A hundred and twenty draws, and a model."""
    store = Store.open(Settings(home=tmp_path))
    store.commit_all(
        (
            "draw_data",
            Partition.segment("late", f"S{number:03}"),
            Draft(metrics={"rows": number}, labels={"ticket": f"AB-{number % 7}"}),
        )
        for number in range(120)
    )
    store.commit("model", Partition.segment("late", "S000"), Draft(metrics={"test.roc_auc": 0.8}))
    return store


def test_our_pages_allow_their_own_style_and_script_and_nothing_else(
    client: TestClient, bad: Hostile
) -> None:
    for path in (
        "/things",
        f"/things/{bad.model.id}",
        f"/things/{bad.model.id}/lineage",
        "/things?q=nonsense",
    ):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        found = parsed(answer.content)
        assert [text for _, text in found.scripts] == [script()]
        assert style() in answer.text
        assert ' style="' not in answer.text
        assert all(
            one.startswith(("/", "#", "http://127.0.0.1:3000/runs/")) or one == "data:,"
            for one in found.loads
        )


def test_no_text_of_a_user_becomes_markup(client: TestClient, bad: Hostile) -> None:
    for thing in (bad.model, bad.damaged, bad.figures, bad.retired):
        for path in (f"/things/{thing.id}", f"/things/{thing.id}/lineage"):
            text = client.get(path).text
            assert HOSTILE not in text
            assert "<img src=x" not in text
            assert "<b>" not in text.replace("<b>1</b>", "").replace("<b>0</b>", "")
    for query in (HOSTILE, f'labels."ticket.a b"="{HOSTILE}"', '"><script>alert(1)</script>'):
        for name in ("q", "step", "columns", "sort"):
            assert "<script>alert" not in client.get("/things", params={name: query}).text


def test_a_page_says_all_that_is_known(client: TestClient, bad: Hostile) -> None:
    text = client.get(f"/things/{bad.model.id}").text
    for part in (
        "column 44",
        "nan",
        "inf",
        "0.4",
        "0.6",
        "boom",
        "failed, blocks",
        "crashed",
        "the whole report",
    ):
        assert part in text
    assert "column 45" in text  # among all columns, not in the preview
    assert "first 50 of 65 columns" in text
    assert f"mlassets reproduce {bad.model.id}" in text
    assert bad.model.address.replace("&", "&amp;") in text


def test_what_is_damaged_says_why_in_its_place_and_the_rest_is_there(
    client: TestClient, bad: Hostile
) -> None:
    answer = client.get(f"/things/{bad.damaged.id}")
    assert answer.status_code == 200
    assert "restore" in answer.text
    assert "Provenance" in answer.text


def test_a_retired_thing_says_when_by_whom_and_why(client: TestClient, bad: Hostile) -> None:
    text = client.get(f"/things/{bad.retired.id}").text
    assert "retired" in text
    assert "wrong &lt;script&gt;" in text
    assert bad.retired.id not in client.get("/things.json").text
    assert bad.retired.id in client.get("/things.json", params={"retired": "yes"}).text


def test_pictures_and_pages_are_served_each_in_a_sandbox_and_nothing_else_is(
    client: TestClient, bad: Hostile
) -> None:
    def artifact(name: str) -> Any:
        return client.get(f"/things/{bad.model.id}/artifacts/{quote(name, safe='')}")

    picture = artifact(f"a/b {HOSTILE}.png")
    assert (picture.content, picture.headers["content-type"]) == (PNG, "image/png")
    for name, media in (("evil.svg", "image/svg+xml"), ("page.html", "text/html; charset=utf-8")):
        answer = artifact(name)
        assert answer.headers["content-type"] == media
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("sandbox")
        assert "allow-same-origin" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "allow-scripts" not in artifact("evil.svg").headers["content-security-policy"]
    for name in ("model.skops", "notes.md", "thing.json", "../thing.json", "data.parquet", "x.html", ""):
        assert artifact(name).status_code == 404


def test_a_plotly_figure_is_a_page_of_its_own(client: TestClient, bad: Hostile) -> None:
    answer = client.get(f"/things/{bad.figures.id}/artifacts/lines")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert HOSTILE not in answer.text
    assert "js-plotly-plot" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/things/nothing",
        "/things/00000000-0000-7000-8000-000000000000",
        "/things/..%2f..%2fsecret",
        "/things/%00",
        "/things/%ff%fe.json",
        "/things/' OR 1=1 --",
        "/things/" + "a" * 5000,
        "/things/mlassets:%2F%2Fx",
        "/things/{id}/nothing",
        "/things/{id}/artifacts/..%2fthing.json",
        "/things/nothing/lineage.json",
    ],
)
def test_whatever_is_no_thing_is_not_found(client: TestClient, bad: Hostile, path: str) -> None:
    assert client.get(path.replace("{id}", bad.model.id)).status_code == 404


def test_nothing_can_be_written_and_a_page_of_elsewhere_cannot_read(client: TestClient, bad: Hostile) -> None:
    for path in ("/things", "/things.json", f"/things/{bad.model.id}", f"/things/{bad.model.id}/lineage"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert client.request(method, path).status_code == 405
        assert client.get(path, headers={"host": "evil.example"}).status_code == 400


def test_the_twin_of_a_page_is_the_manifest_and_more_as_strict_json(client: TestClient, bad: Hostile) -> None:
    told = json.loads(client.get(f"/things/{bad.model.id}.json").text, parse_constant=pytest.fail)
    assert told["parameters"] == bad.model.manifest["parameters"]
    assert told["metrics"]["test.roc_auc"] == {"$float": "nan"}
    assert [one["claim"] for one in told["verdicts"]] == sorted([HOSTILE, "beats_the_baseline", "is_quick"])
    assert told["schema"][0]["name"] == HOSTILE
    assert as_json(bad.store, bad.retired)["retired"]["reason"] == f"wrong {HOSTILE}"
    lineage = client.get(f"/things/{bad.model.id}/lineage.json").json()
    assert {one["id"] for one in lineage["nodes"]} >= {
        bad.model.id,
        bad.damaged.id,
        bad.figures.id,
        bad.retired.id,
    }
    assert {one["state"] for one in lineage["nodes"]} == {"there", "retired", "missing"}


def test_a_run_leads_to_dagster_where_it_is_known(bad: Hostile, plain: Store) -> None:
    thing = plain.commit("model", Partition.project("late"), Draft(), run_id="a run/1")
    assert 'href="http://d/runs/a%20run%2F1"' in client_of(plain, "http://d").get(f"/things/{thing.id}").text
    assert not re.search(r'href="[^"]*/runs/', client_of(plain).get(f"/things/{thing.id}").text)


def test_an_id_a_short_id_and_a_name_lead_to_their_thing(client: TestClient, bad: Hostile) -> None:
    there = f"/things/{bad.model.id}"
    for path in (f"/things/{bad.model.short_id}", f"/things/{bad.model.id.upper()}"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, there)
    for query in (bad.model.id, bad.model.short_id, f"  {bad.model.short_id} ", bad.model.address):
        assert client.get("/things", params={"q": query}).headers["location"] == there


def test_a_list_is_what_find_finds_page_by_page(plain: Store) -> None:
    client = client_of(plain)
    pages = [
        client.get("/things.json", params={"sort": "metrics.rows", "page": page}).json() for page in (1, 2, 3)
    ]
    ids = [one["id"] for page in pages for one in page["things"]]
    assert ids == plain.find(sort="metrics.rows").ids()
    assert {page["count"] for page in pages} == {121}
    assert len(pages[0]["things"]) == A_PAGE
    text = client.get("/things", params={"page": 3}).text
    assert "101 to 121, page 3 of 3" in text
    assert 'rel="next"' not in text
    assert "There is no such page" in client.get("/things", params={"page": 99}).text
    assert "page 1 of 3" in client.get("/things", params={"page": "-4x"}).text


def test_a_search_and_a_step_are_both_to_hold(plain: Store) -> None:
    client = client_of(plain)
    query = "labels.ticket=AB-3 or metrics.test.roc_auc>0.7"
    both = client.get("/things.json", params={"q": query, "step": "model"}).json()
    assert [one["step"] for one in both["things"]] == ["model"]
    alone = client.get(
        "/things.json", params={"q": query, "columns": "labels.ticket metrics.rows, nothing"}
    ).json()
    assert alone["count"] == plain.find(query).count()
    assert alone["things"][1]["columns"] == {"labels.ticket": "AB-3", "metrics.rows": 115.0, "nothing": None}


def test_a_search_that_makes_no_sense_is_told_above_the_list(plain: Store) -> None:
    client = client_of(plain)
    for query, told in (("stp=model", "step"), ("rows>many", "rows"), ("(", "cannot be read"), ("a~b", "a")):
        answer = client.get("/things", params={"q": query})
        assert answer.status_code == 400
        assert told in answer.text
        assert f'value="{escape(query)}"' in answer.text
        twin = client.get("/things.json", params={"q": query})
        assert (twin.status_code, told in twin.json()["error"]) == (400, True)
    assert client.get("/things", params={"sort": "nothing"}).status_code == 400
    assert "ticket" in client.get("/things", params={"q": "labels.tiket=1"}).text


def test_the_examples_of_searches_can_be_read_and_are_those_of_the_how_to() -> None:
    for query, _ in EXAMPLES:
        filters.parse(query)
    page = Path(__file__).parents[2] / "docs/how-to/browse.md"
    told = re.findall(r"^\| `([^`]+)` \| [^`|]+ \|$", page.read_text(encoding="utf-8"), re.M)
    assert told == [query for query, _ in EXAMPLES]


def test_an_address_says_what_was_asked() -> None:
    asked = Asked(query=f"labels.x={ODD}", step="model", sort="rows", page=3, columns="a b", retired=True)
    from starlette.datastructures import QueryParams

    assert Asked.of(QueryParams(asked.link().partition("?")[2])) == asked
    assert Asked().link() == "/things"
    assert asked.sorted_by("rows") == asked.link(sort="-rows", page=1)
    assert Asked(step='a"b\\').whole_query == 'step="a\\"b\\\\"'


def test_the_first_rows_of_several_files_and_of_none(plain: Store) -> None:
    empty = plain.commit(
        "draw_data", Partition.segment("late", "none"), Draft(dataset=pa.table({"a": pa.array([], "i8")}))
    )
    text = client_of(plain).get(f"/things/{empty.id}").text
    assert "0 rows, 1 column" in text
    assert "All rows" in text


def test_a_removed_thing_says_so_and_what_is_left_of_it(plain: Store) -> None:
    draft = Draft(
        dataset=pa.table({"a": [1]}), artifacts={"curve.png": PNG}, parameters={"kept": "as it was"}
    )
    thing = plain.retire(plain.commit("model", Partition.project("late"), draft).id, "too old")
    plain.gc(grace=timedelta(0))
    client = client_of(plain)
    text = client.get(f"/things/{thing.id}").text
    for part in ("removed</span>", "too old", "as it was", "its files are gone"):
        assert part in text
    assert "<img" not in text
    assert client.get(f"/things/{thing.id}/artifacts/curve.png").status_code == 404
    assert as_json(plain, plain.get(thing.id))["removed"]["user"]
    state = client.get(f"/things/{thing.id}/lineage.json").json()["nodes"][0]["state"]
    assert state == "removed"


def test_a_lake_that_does_not_answer_is_asked_once_and_the_catalog_for_the_rest(plain: Store) -> None:
    draft = Draft(
        dataset=pa.table({"a": [1]}), parameters={"known": "to the catalog"}, artifacts={"notes.txt": b"x"}
    )
    thing = plain.commit("model", Partition.project("late"), draft)
    gone = Store(
        open_lake("s3://gone/lake", endpoint=f"http://127.0.0.1:{free_port()}", patience=0.2), plain.catalog
    )
    text = client_of(gone).get(f"/things/{thing.id}").text
    for part in ("lake does not answer", "to the catalog", "mlassets reproduce"):
        assert part in text
    assert client_of(gone).get("/things").status_code == 200


def test_what_a_page_says_to_type_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(Settings(home=tmp_path / "home"))
    for number in range(2):
        draft = Draft(dataset=pa.table({"a": [number]}), artifacts={'it\'s "odd".bin': b"content"})
        thing = store.commit("model", Partition.project("late"), draft)
    text = unescape(client_of(store).get(f"/things/{thing.id}").text)
    *_, commands, python = re.findall(r"<pre>(.*?)</pre>", text, re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLASSETS_HOME", str(tmp_path / "home"))
    typed = [shlex.split(line)[1:] for line in commands.splitlines()]
    assert [words[0] for words in typed] == ["show", "get", "lineage", "used", "diff", "reproduce"]
    for words in typed[:-1]:
        done = mlassets(None, *words)
        assert done.exit_code == 0, done.output
    assert mlassets(None, "reproduce", "--help").exit_code == 0
    assert (tmp_path / "here").exists()
    names: dict[str, Any] = {}
    exec(compile(python, "page", "exec"), names)  # our own page
    assert names["frame"]["a"].tolist() == [1]
    assert names["content"] == b"content"
