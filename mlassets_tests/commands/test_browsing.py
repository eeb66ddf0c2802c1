"""`mlassets things` as it is typed."""

import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from mlassets_tests.processes import free_port
from mlassets_tests.small_homes import mlassets, mlassets_process, store_of
from resources.things import Draft, Partition


def test_things_are_served_until_ctrl_c_and_the_first_page_is_what_was_asked_for(tmp_path: Path) -> None:
    thing = store_of(tmp_path).commit("model", Partition.project("late"), Draft())
    port = free_port()
    process = mlassets_process(tmp_path, "things", "step=model since=1d", "--port", str(port))
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        address = f"http://127.0.0.1:{port}/things?q=step%3Dmodel+since%3D1d"
        assert told == f"Things on {address}; Ctrl-C ends it.\n"
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert thing.short_id in answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_is_taken_is_told_in_words(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = mlassets(tmp_path, "things", "--port", str(taken.getsockname()[1]))
    assert done.exit_code == 2
    assert "--port" in done.stderr


@pytest.mark.parametrize("port", ["0x", "-1", "70000"])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: str) -> None:
    assert mlassets(tmp_path, "things", "--port", port).exit_code == 2


def test_a_lineage_is_written_as_a_page_that_leads_to_the_pages_of_things_where_there_are_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thing = store_of(tmp_path).commit("model", Partition.project("late"), Draft())
    for url, href in (("", f"#{thing.id}"), ("https://here/things", f"https://here/things/{thing.id}")):
        if url:
            monkeypatch.setenv("MLASSETS_THINGS_URL", url)
        page = tmp_path / "new folder" / "lineage.html"
        done = mlassets(tmp_path, "lineage", "model:late", "--html", str(page))
        assert done.exit_code == 0, done.output
        assert f'href="{href}"' in page.read_text(encoding="utf-8")
