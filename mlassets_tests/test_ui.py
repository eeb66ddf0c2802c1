"""`mlassets ui` as it is used: Dagster's daemon, its GraphQL interface, and all pages in a real browser.

One server on one small home serves every test here. The home starts empty; a file that lands leads to a release
with nothing else done, and what the tests look at is what came of it.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, expect

from mlassets.checks.reporting import NO_VERDICT_BLOCKS
from mlassets.steps import (
    AGGREGATE,
    DRAW_DATA,
    MODEL,
    MODEL_READY,
    PROJECT_STEPS,
    PUBLISH,
    REVIEW,
    SEGMENT_STEPS,
    SOURCES,
    STEPS,
)
from mlassets_tests.browsers import Look, launched, looking
from mlassets_tests.processes import processes_of_session, wait_until
from mlassets_tests.small_homes import departures, land, newest, store_of, write_spec
from mlassets_tests.uis import Ui, end, start
from resources.things import Partition
from resources.uploads import UPLOADS

SEGMENTS = ("EWR", "JFK")
PROJECT = "late"
SENSORS = (
    "changed_origin_sensor",
    "new_files_sensor",
    "new_data_sensor",
    "new_models_sensor",
    "changed_spec_sensor",
    "sent_back_sensor",
    "left_work_sensor",
    "new_input_sensor",
    "alerts_sensor",
)
# Far more than it takes: what must never happen is that a slow machine fails a test.
DEADLINE = 900


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """A server on a home that has one project with review by rules, and no data."""
    folder = tmp_path_factory.mktemp("ui")
    write_spec(folder / "home")
    ui = start(folder / "home", folder / "ui.log")
    try:
        wait_until(ui.is_ready, "the code location is loaded", DEADLINE)
        yield ui
    finally:
        end(ui)


@pytest.fixture(scope="module")
def ui(empty: Ui) -> Ui:
    """The server, after a file was dropped and everything that this set in motion came to rest."""
    land(empty.home, "flights/2013-01.csv", departures(SEGMENTS, rows=150))
    store = store_of(empty.home)
    released = Partition.project(PROJECT)

    def is_released() -> bool:
        failed = [one for one in empty.runs() if one["status"] == "FAILURE"]
        assert not failed, empty.log.read_text()
        thing = store.latest(PUBLISH, released)
        return thing is not None and bool(store.verdicts(thing.id))

    wait_until(is_released, "the dropped file has led to a release", DEADLINE, every=1)
    wait_until(empty.is_at_rest, "all runs have ended", DEADLINE, every=1)
    return empty


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    with looking(browser) as look:
        yield look


def test_the_checkout_and_a_home_name_the_same_location(empty: Ui) -> None:
    # Dagster remembers cursors and run keys by that name: both ways to start it must go on where the other stopped.
    checkout = Path(__file__).parent.parent / "workspace.yaml"
    laid_out = empty.home / "dagster" / "workspace.yaml"
    assert yaml.safe_load(checkout.read_text()) == yaml.safe_load(laid_out.read_text())


def test_the_location_loads_with_its_assets_checks_and_running_sensors(empty: Ui) -> None:
    found = empty.ask("""{
        workspaceOrError {... on Workspace {locationEntries {name locationOrLoadError {__typename}}}}
        assetNodes {assetKey {path} assetChecksOrError {... on AssetChecks {checks {name}}}}
        sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "mlassets"})
            {... on Sensors {results {name description sensorState {status}}}}
    }""")
    (location,) = found["workspaceOrError"]["locationEntries"]
    assert location == {"name": "mlassets", "locationOrLoadError": {"__typename": "RepositoryLocation"}}
    checks = {
        one["assetKey"]["path"][-1]: {check["name"] for check in one["assetChecksOrError"]["checks"]}
        for one in found["assetNodes"]
    }
    # What people log outside of the pipeline is not judged.
    assert checks.pop(UPLOADS) == set()
    assert set(checks) == {SOURCES, *STEPS}
    assert all(NO_VERDICT_BLOCKS in names and len(names) > 1 for names in checks.values())
    sensors = found["sensorsOrError"]["results"]
    assert {one["name"] for one in sensors} == set(SENSORS)
    assert {one["sensorState"]["status"] for one in sensors} == {"RUNNING"}
    assert all(one["description"] for one in sensors)


def test_a_dropped_file_leads_to_a_release_with_nothing_else_done(ui: Ui) -> None:
    made = newest(ui.home)
    assert set(made) == {
        (SOURCES, "flights"),
        *((step, f"{PROJECT}|{segment}") for step in SEGMENT_STEPS for segment in SEGMENTS),
        *((step, PROJECT) for step in PROJECT_STEPS),
    }
    store = store_of(ui.home)
    for step, key in made:
        contents = {thing.data_version for thing in store.history(step) if thing.partition.key == key}
        assert len(contents) == 1, f"{step} of {key} was made of something that was not there"
    release = made[PUBLISH, PROJECT]
    assert release.rows == made[AGGREGATE, PROJECT].rows
    upstream = {store.get(edge.based_on).step for edge in store.upstream(release.id)}
    assert upstream == {SOURCES, DRAW_DATA, MODEL_READY, MODEL, AGGREGATE, REVIEW}


def test_dropping_the_same_bytes_again_runs_nothing_again(ui: Ui) -> None:
    runs = len(ui.runs())
    land(ui.home, "flights/2013-01.csv", departures(SEGMENTS, rows=150))
    land(ui.home, "flights/the-same-again.csv", departures(SEGMENTS, rows=150))
    before = {name: ui.ticks(name) for name in ("new_files_sensor", "new_data_sensor")}
    # The first look may find the files too young; the third knows all there is to know.
    for name, count in before.items():
        wait_until(lambda name=name, count=count: ui.ticks(name) >= count + 3, f"{name} looks", DEADLINE)
    assert len(ui.runs()) == runs


def test_one_partition_of_one_step_is_run_and_judged_when_asked_for(ui: Ui) -> None:
    things = len(store_of(ui.home).history())
    key = f"{PROJECT}|EWR"
    query = """mutation($params: ExecutionParams!) {launchPipelineExecution(executionParams: $params) {
        __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"""
    tags = {
        "dagster/partition": key,
        "dagster/partition/project": PROJECT,
        "dagster/partition/segment": "EWR",
    }
    answer = ui.ask(
        query,
        params={
            "mode": "default",
            "runConfigData": "{}",
            "selector": {
                "repositoryLocationName": "mlassets",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": [DRAW_DATA]}],
            },
            "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in tags.items()]},
        },
    )["launchPipelineExecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run = answer["run"]["runId"]
    wait_until(ui.is_at_rest, "the run has ended", DEADLINE, every=1)
    assert {one["runId"]: one["status"] for one in ui.runs()}[run] == "SUCCESS"
    query = """query($check: String!) {
        assetCheckExecutions(assetKey: {path: ["draw_data"]}, checkName: $check, limit: 9) {
        runId evaluation {success partition description metadataEntries {label
            ... on UrlMetadataEntry {url} ... on PathMetadataEntry {path}}}}}"""
    for check in (NO_VERDICT_BLOCKS, "no_duplicate_rows"):
        found = ui.ask(query, check=check)["assetCheckExecutions"]
        (asked,) = [one["evaluation"] for one in found if one["runId"] == run]
        assert asked["partition"] == key
        assert asked["success"]
        links = {one["label"]: one.get("url") or one.get("path") for one in asked["metadataEntries"]}
        thing = newest(ui.home)[DRAW_DATA, key]
        assert links["report page"] == f"{ui.reports}/{thing.id}"
        assert Path(links["report"]).is_file()
        assert {one["evaluation"]["partition"] for one in found} == {f"{PROJECT}|{name}" for name in SEGMENTS}
    # The draw is what it was, so nothing downstream has anything to do.
    assert len(store_of(ui.home).history()) == things + 1


def test_the_graph_shows_every_step(ui: Ui, look: Look) -> None:
    look.page.goto(f"{ui.dagster}/asset-groups")
    for step in (SOURCES, *STEPS, UPLOADS):
        expect(look.page.get_by_text(step, exact=True).first).to_be_visible()


def test_the_partitions_page_shows_projects_segments_and_a_versions_metadata(ui: Ui, look: Look) -> None:
    look.page.goto(f"{ui.dagster}/assets/{MODEL}?view=partitions&partition={PROJECT}%7CEWR")
    for text in (
        "Materialized (2)",
        "Missing (0)",
        "EWR",
        "JFK",
        "test.roc_auc",
        "report page",
        "thing page",
        "based on",
    ):
        expect(look.page.get_by_text(text, exact=True).first).to_be_visible()


def test_the_checks_page_shows_verdicts(ui: Ui, look: Look) -> None:
    look.page.goto(f"{ui.dagster}/assets/{MODEL}?view=checks&checkDetail=beats_the_baseline")
    for text in ("beats_the_baseline", NO_VERDICT_BLOCKS):
        expect(look.page.get_by_text(text, exact=True).first).to_be_visible()
    expect(look.page.get_by_text("report page", exact=True).first).to_be_visible()


def test_the_overview_of_an_asset_says_what_it_is_and_what_its_columns_are(ui: Ui, look: Look) -> None:
    look.page.goto(f"{ui.dagster}/assets/{MODEL}")
    expect(look.page.get_by_text("The best candidate for one segment").first).to_be_visible()
    expect(look.page.get_by_text("probability", exact=True).first).to_be_visible()
    expect(look.page.get_by_text("Plots", exact=True).first).to_be_visible()


def test_the_automation_page_lists_the_sensors(ui: Ui, look: Look) -> None:
    look.page.goto(f"{ui.dagster}/automation")
    for name in SENSORS:
        expect(look.page.get_by_text(name, exact=True).first).to_be_visible()


def test_a_report_is_reached_from_the_list_and_shows_its_verdicts(ui: Ui, look: Look) -> None:
    thing = newest(ui.home)[MODEL, f"{PROJECT}|JFK"]
    look.page.goto(ui.reports)
    look.page.get_by_role("link", name=thing.id, exact=True).click()
    expect(look.page).to_have_title(f"{MODEL} of {PROJECT}|JFK")
    expect(look.page.get_by_role("table").first).to_be_visible()
    expect(look.page.get_by_role("link", name="beats the baseline").first).to_be_visible()
    # Figures are drawn by the page's own script, under its own policy and the server's.
    look.page.locator("details:has(.figure) > summary").first.click()
    expect(look.page.locator(".figure .js-plotly-plot").first).to_be_visible()
    assert look.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_evidence_of_a_review_is_one_page(ui: Ui, look: Look) -> None:
    review = newest(ui.home)[REVIEW, PROJECT]
    look.page.goto(f"{ui.reports}/{review.id}/evidence.html")
    expect(look.page.get_by_role("heading", name=f"Review of {PROJECT}")).to_be_visible()
    expect(look.page.get_by_text("roc_auc >= 0.5").first).to_be_visible()
    expect(look.page.get_by_text("approve", exact=True).first).to_be_visible()
    expect(look.page.get_by_role("table").first).to_be_visible()


def test_a_thing_is_reached_from_the_partitions_page_and_leads_to_its_run_and_report(
    ui: Ui, look: Look
) -> None:
    thing = newest(ui.home)[MODEL, f"{PROJECT}|JFK"]
    look.page.goto(f"{ui.dagster}/assets/{MODEL}?view=partitions&partition={PROJECT}%7CJFK")
    address = look.page.get_by_role("link", name=f"/things/{thing.id}").first.get_attribute("href")
    assert address == f"http://127.0.0.1:{ui.port + 1}/things/{thing.id}"
    look.page.goto(address)
    expect(look.page.get_by_role("heading", name=f"{MODEL} of {PROJECT}|JFK")).to_be_visible()
    run = look.page.get_by_role("link", name=str(thing.run_id))
    assert run.get_attribute("href") == f"{ui.dagster}/runs/{thing.run_id}"
    pictures = look.page.locator("#pictures img")
    assert pictures.count() == 2
    for number in range(2):
        picture = pictures.nth(number)
        picture.scroll_into_view_if_needed()
        # The page's policy lets nobody evaluate a text, as waiting for a function does.
        wait_until(lambda one=picture: one.evaluate("img => img.naturalWidth") > 100, "it is drawn", 30)
    look.page.get_by_role("link", name="report of its verdicts").click()
    expect(look.page).to_have_title(f"{MODEL} of {PROJECT}|JFK")


def test_sigterm_ends_dagster_and_all_its_children(ui: Ui) -> None:
    # The last test here, because the server is gone after it. What Ctrl-C does is told by the scenario.
    # The command, `dagster dev`, its web server, its daemon and its code server, at least.
    assert len(processes_of_session(ui.process.pid)) >= 5
    ui.process.send_signal(signal.SIGTERM)
    assert ui.process.wait(120) == 0, ui.log.read_text()
    assert processes_of_session(ui.process.pid) == []
