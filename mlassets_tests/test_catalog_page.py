"""docs/catalog.md says how each thing is done, and names a test that shows it."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs/catalog.md").read_text()
ROWS = [line for line in PAGE.splitlines() if ".py" in line and line.startswith("|")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
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
    firsts = " ".join(row.split("|")[1] for row in ROWS)
    assert [word for word in words.split() if not re.search(rf"\b{word}", firsts)] == []
