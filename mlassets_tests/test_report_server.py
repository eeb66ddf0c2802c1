"""The report server and the end of `mlassets ui`, without Dagster."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlassets.ui import PortTaken, report_server, run_until_signal, serve
from mlassets_tests.processes import free_port, processes_of_session, wait_until
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing
from resources.verdicts import Verdict

HOSTILE = "<script>alert(1)</script>"
SECRET = b"not for everybody"
VERDICT = Verdict("segments_are_covered", "passed", "ERROR", 1.0, ">= 1", 1, "all of them", {})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One judged Thing with hostile names, one that was never judged."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "secret.html").write_bytes(SECRET)
    store = Store.open(Settings(home=folder))
    judged = store.commit(
        "review",
        Partition.segment("late", HOSTILE),
        Draft(artifacts={"evidence.html": b"<p>evidence</p>", "decision.json": b"{}"}),
    )
    store.record_verdicts(judged.id, "one", [VERDICT], b"<p>the first report</p>")
    store.record_verdicts(judged.id, "two", [VERDICT], b"<p>the newest report</p>")
    store.commit("review", Partition.project("never-judged"), Draft(parameters={"a": 1}))
    return store


@pytest.fixture(scope="module")
def judged(store: Store) -> Thing:
    return store.require("review", Partition.segment("late", HOSTILE))


@pytest.fixture(scope="module")
def port(store: Store) -> Iterator[int]:
    """The port of a report server on the store."""
    number = free_port()
    with report_server(store, "127.0.0.1", number):
        wait_until(lambda: answers(number), "the report server answers", seconds=30)
        yield number


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port: int, path: str, method: str = "GET", host: str = "") -> tuple[int, dict[str, str], bytes]:
    """Ask for exactly this path, which no client has tidied before."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host or f"127.0.0.1:{port}")
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_the_newest_report_on_a_thing_is_served_under_a_strict_policy(port: int, judged: Thing) -> None:
    status, headers, body = ask(port, f"/reports/{judged.id}")
    assert (status, body) == (200, b"<p>the newest report</p>")
    assert headers["content-type"].startswith("text/html")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.startswith("sandbox")
    assert "allow-same-origin" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_evidence_of_a_review_is_served_and_no_artifact_that_is_no_page(port: int, judged: Thing) -> None:
    assert ask(port, f"/reports/{judged.id}/evidence.html")[2] == b"<p>evidence</p>"
    assert ask(port, f"/reports/{judged.id}/decision.json")[0] == 404


def test_the_list_names_what_was_judged_with_every_text_escaped(port: int, judged: Thing) -> None:
    status, headers, body = ask(port, "/reports")
    text = body.decode()
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert f'href="/reports/{judged.id}"' in text
    assert f'href="/reports/{judged.id}/evidence.html"' in text
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text or "%3Cscript%3E" in text
    assert "never-judged" not in text


def test_the_start_page_leads_to_all_things_and_the_list_of_reports_does_too(port: int) -> None:
    status, headers, _ = ask(port, "/")
    assert (status, headers["location"]) == (307, "/things")
    assert b'href="/things"' in ask(port, "/reports")[2]
    assert b'href="/reports"' in ask(port, "/things")[2]


@pytest.mark.parametrize(
    "path",
    [
        "/reports/nothing",
        "/reports/00000000-0000-7000-8000-000000000000",
        "/reports/..%2f..%2fsecret.html",
        "/reports/../secret.html",
        "/reports/%2e%2e/%2e%2e/secret.html",
        "/reports/%00",
        "/reports/%ff%fe",
        "/reports/' OR 1=1 --".replace(" ", "%20"),
        "/reports/" + "a" * 5000,
        "/secret.html",
        "//secret.html",
        "/reports/{id}/..%2f..%2f..%2fsecret.html",
        "/reports/{id}/../../secret.html",
        "/reports/{id}/thing.json",
        "/reports/{id}/%00.html",
        "/reports/{id}%00",
        "/reports/{id}/evidence.html/more",
    ],
)
def test_whatever_is_no_report_is_not_found(port: int, judged: Thing, path: str) -> None:
    status, _, body = ask(port, path.replace("{id}", judged.id))
    assert status == 404
    assert SECRET not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(port: int, judged: Thing, method: str) -> None:
    for path in ("/reports", f"/reports/{judged.id}", f"/reports/{judged.id}/evidence.html"):
        assert ask(port, path, method)[0] == 405


def test_a_page_of_elsewhere_cannot_read_reports_through_a_name_of_its_own(port: int, judged: Thing) -> None:
    assert ask(port, f"/reports/{judged.id}", host="evil.example")[0] == 400
    assert ask(port, f"/reports/{judged.id}", host=f"localhost:{port}")[0] == 200


def test_a_port_that_is_taken_is_refused_in_words(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"{number}.*--port"):
            serve(Settings(home=tmp_path), "127.0.0.1", number)


STUBBORN = "trap '' INT TERM; while :; do sleep 1; done"
TREE = f"""
import os, sys
from mlassets.ui import run_until_signal
sys.exit(run_until_signal(["sh", "-c", "({STUBBORN}) & echo up; wait"], dict(os.environ)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("ignored", [False, True], ids=["from a terminal", "in the background of a script"])
def test_a_signal_ends_every_descendant_even_one_that_will_not_hear(
    number: signal.Signals, ignored: bool
) -> None:
    # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
    prepare = (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN) and None) if ignored else None
    process = subprocess.Popen(
        [sys.executable, "-c", TREE], stdout=subprocess.PIPE, start_new_session=True, preexec_fn=prepare
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert len(processes_of_session(process.pid)) >= 3
        os.kill(process.pid, number)
        assert process.wait(60) == 0
        assert processes_of_session(process.pid) == []
    finally:
        for one in processes_of_session(process.pid):
            os.kill(one, signal.SIGKILL)
        process.wait()


def test_the_exit_code_of_a_command_that_ends_by_itself_is_passed_on() -> None:
    assert run_until_signal(["sh", "-c", "exit 7"], dict(os.environ)) == 7
