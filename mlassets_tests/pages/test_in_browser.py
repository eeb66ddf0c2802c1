"""The pages in a real browser: searched, walked through, with keys, without a script, on a telephone, in the dark."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from mlassets.pages.lineage import lineage_page
from mlassets.steps import SOURCES
from mlassets.ui import report_server
from mlassets_tests.automation.made import Made
from mlassets_tests.browsers import Look, launched, looking
from mlassets_tests.pages.hostile import Hostile, hostile
from mlassets_tests.pages.test_lineage_page import fan
from mlassets_tests.processes import free_port
from resources.store import Store
from resources.things import Draft, Partition, Thing


@dataclass(frozen=True)
class Served:
    """A store and where its pages are."""

    store: Store
    address: str

    def of(self, thing: Thing, more: str = "") -> str:
        return f"{self.address}/{thing.id}{more}"

    def newest(self, step: str, partition: Partition) -> Thing:
        return self.store.require(step, partition)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    with looking(browser, 1400, 900) as look:
        yield look


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A project with all six steps of two segments, made twice, so that there are more Things than a page holds."""
    made = Made(tmp_path_factory.mktemp("late"))
    made.spec("late")
    for number in range(2):
        made.source("flights", {"origin": ["EWR", "JFK"], "late": [0, number]})
        made.all_steps("late")
    made.store.commit_all((SOURCES, Partition.source(f"weather-{number}"), Draft()) for number in range(45))
    yield from served(made.store)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    return hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def bad_pages(bad: Hostile) -> Iterator[Served]:
    yield from served(bad.store)


def served(store: Store) -> Iterator[Served]:
    port = free_port()
    with report_server(store, "127.0.0.1", port):
        yield Served(store, f"http://127.0.0.1:{port}/things")


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def node(page: Page, thing: Thing, which: str = "things") -> Locator:
    return page.locator(f"svg.{which} .node[data-row='{thing.id}']")


def test_a_search_finds_sorts_and_leads_to_a_thing(late: Served, look: Look) -> None:
    page = look.page
    page.goto(late.address)
    expect(page.get_by_text("65 Things, 1 to 50, page 1 of 2")).to_be_visible()
    page.get_by_role("link", name="Next page").first.click()
    expect(page.get_by_text("51 to 65, page 2 of 2")).to_be_visible()
    page.get_by_role("searchbox").fill("partition=late|EWR")
    page.get_by_label("Step").select_option("model")
    page.get_by_label("More columns").fill("parameters.candidate")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("2 Things, 1 to 2")).to_be_visible()
    expect(page.get_by_role("cell", name="linear", exact=True)).to_have_count(2)
    page.get_by_role("link", name="Made (UTC)").click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_text(re.compile("Made"))
    oldest = late.store.find("step=model partition=late|EWR", sort="created_at").first()
    assert oldest is not None
    page.locator("table.things tbody a").first.click()
    expect(page).to_have_url(late.of(oldest))
    expect(page.get_by_role("heading", name="model of late|EWR")).to_be_visible()
    page.locator("#versions").get_by_role("link").first.click()
    expect(page).to_have_url(late.of(late.newest("model", Partition.segment("late", "EWR"))))


def test_a_search_that_makes_no_sense_stays_to_be_mended(late: Served, look: Look) -> None:
    look.page.goto(f"{late.address}?q=stp%3Dmodel&columns=rows")
    expect(look.page.get_by_role("alert")).to_contain_text("step")
    expect(look.page.get_by_role("searchbox")).to_have_value("stp=model")
    look.complaints.clear()  # that it was answered with 400


def test_the_graph_shows_details_and_paths_and_leads_on(late: Served, look: Look) -> None:
    page, model = look.page, late.newest("model", Partition.segment("late", "EWR"))
    aggregate = late.newest("aggregate", Partition.project("late"))
    page.goto(late.of(model))
    node(page, aggregate).hover()
    card = page.locator(".card")
    expect(card).to_contain_text(aggregate.id)
    expect(card).to_contain_text("1 downstream")
    lit = page.locator("svg.things .node.on")
    # The aggregate, all that it was made from as far as it is shown, and what was made from it.
    expect(lit).to_have_count(7)
    page.mouse.move(0, 0)
    expect(card).to_be_hidden()
    node(page, aggregate).click()
    expect(page).to_have_url(late.of(aggregate))


def test_the_graph_is_walked_with_keys(late: Served, look: Look) -> None:
    page, model = look.page, late.newest("model", Partition.segment("late", "EWR"))
    ready = late.newest("model_ready", Partition.segment("late", "EWR"))
    page.goto(late.of(model))
    # One stop of the tabulator, however many nodes there are.
    assert page.locator("svg.things .node[tabindex='0']").count() == 1
    node(page, model).focus()
    page.keyboard.press("ArrowLeft")
    expect(node(page, ready)).to_be_focused()
    expect(page.locator(".card")).to_contain_text(ready.id)
    page.keyboard.press("ArrowRight")
    expect(node(page, model)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page).to_have_url(late.of(ready))


def test_without_a_script_the_graph_is_links_and_a_table(browser: Browser, late: Served) -> None:
    model = late.newest("model", Partition.segment("late", "EWR"))
    draw = late.newest("draw_data", Partition.segment("late", "EWR"))
    with looking(browser, java_script_enabled=False) as look:
        look.page.goto(late.of(model))
        expect(look.page.locator(".tools")).to_be_hidden()
        look.page.locator(".lineage summary").click()
        expect(look.page.get_by_role("cell", name="2 upstream")).to_be_visible()
        node(look.page, draw).click()
        expect(look.page).to_have_url(late.of(draw))


def test_a_file_with_three_hundred_things_is_looked_at_by_step_then_by_thing(
    browser: Browser, tmp_path: Path
) -> None:
    lineage = fan(300)
    file = tmp_path / "lineage.html"
    file.write_text(lineage_page(lineage), encoding="utf-8")
    with looking(browser, 1400, 900) as look:
        page = look.page
        page.goto(file.as_uri())
        expect(page.locator("svg.groups .node")).to_have_count(2)
        expect(page.locator("svg.things")).to_be_hidden()
        page.locator("svg.groups .node.group").click()
        things = page.locator("svg.things .node")
        expect(things).to_have_count(301)
        expect(page.locator("svg.things .node:focus")).to_be_in_viewport()
        page.get_by_placeholder("step, partition, id").fill("late|77")
        expect(page.locator("svg.things .node.on")).to_have_count(1)
        page.get_by_role("button", name="Fit").click()
        box = page.locator("svg.things").bounding_box()
        assert box is not None
        assert box["height"] < 300 * 54 * 0.2
        # A node leads to its row, which is folded away until then.
        page.locator("svg.things .node.on").click(force=True)
        expect(page.locator("tr:target")).to_be_visible()
        expect(page.locator("tr:target")).to_contain_text("late|77")


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_nothing_hostile_runs_and_every_page_fits(
    browser: Browser, bad: Hostile, bad_pages: Served, width: int, scheme: str
) -> None:
    with looking(browser, width, 844, color_scheme=scheme) as look:
        dialogs: list[str] = []
        look.page.on("dialog", lambda one: (dialogs.append(one.message), one.dismiss()))
        for path in ("?retired=yes", f"/{bad.model.id}", f"/{bad.model.id}/lineage", f"/{bad.figures.id}"):
            look.page.goto(f"{bad_pages.address}{path}")
            assert fits(look.page), path
        look.page.goto(bad_pages.of(bad.model))
        look.page.locator("#pictures").scroll_into_view_if_needed()
        look.page.wait_for_function(
            "[...document.querySelectorAll('#pictures img')].every((one) => one.naturalWidth)"
        )
        look.page.locator("#documents summary").first.click()
        framed = look.page.frame_locator("iframe[title='page.html']")
        expect(framed.locator("body")).to_contain_text("no access, no escape")
        look.page.goto(bad_pages.of(bad.model, "/artifacts/evil.svg"))
        assert dialogs == []
        # What the sandbox has kept from running is told in the console.
        look.complaints[:] = [
            one for one in look.complaints if "sandboxed" not in one and "navigat" not in one
        ]


def test_a_plotly_figure_is_drawn_within_the_page(bad: Hostile, bad_pages: Served, look: Look) -> None:
    look.page.goto(bad_pages.of(bad.figures))
    look.page.locator("#documents summary", has_text="lines").click()
    figure = look.page.frame_locator("iframe[title='lines']").locator(".js-plotly-plot")
    expect(figure).to_be_visible()
