"""docs/catalog.md and docs/ingestion.md say what is done, and name the tests that show it."""

import re
from pathlib import Path

import pytest

from mlassets.ingestion.formats import FORMATS

TESTS = Path(__file__).parent
PAGES = {name: (TESTS.parent / f"docs/{name}.md").read_text() for name in ("catalog", "ingestion")}
ROWS = {
    name: [line for line in page.splitlines() if ".py" in line and line.startswith("|")]
    for name, page in PAGES.items()
}


@pytest.mark.parametrize(
    "row", ROWS["catalog"] + ROWS["ingestion"], ids=lambda row: row.split("|")[1].strip()
)
def test_what_shows_a_row_exists(row: str) -> None:
    found = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row.rsplit("|", 2)[1])
    assert found, row
    for path, name in found:
        assert re.search(rf"^def {name}\(", (TESTS / path).read_text(), re.M)


def test_every_capability_has_a_row() -> None:
    words = "log browse load get_metadata get_parameters get_metrics get_artifact get_embedding versions update delete "
    words += (
        "pointers addresses copy hashing size functional create upload download find get based_on labels "
    )
    words += "automatic sidecar deduplicate lock"
    firsts = " ".join(row.split("|")[1] for row in ROWS["catalog"])
    assert [word for word in words.split() if not re.search(rf"\b{word}", firsts)] == []


def test_every_format_is_on_the_page() -> None:
    page = PAGES["ingestion"].split("## Formats")[1].split("## Hard cases")[0]
    named = set(re.findall(r"\.\w+(?:\.gz)?", page))
    packed = (".tar.", ".tgz", ".tbz", ".txz", ".tzst")
    assert [one for one in FORMATS if one not in named and not one.startswith(packed)] == []
