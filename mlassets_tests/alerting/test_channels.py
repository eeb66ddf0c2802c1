"""Every channel against a real server: what arrives, and what is said when it does not."""

import json
from datetime import UTC, datetime
from pathlib import Path
from unicodedata import category
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlassets.alerting import channels
from mlassets.alerting.alerts import TEXT_LENGTH, TITLE_LENGTH, Alert, alert, message_of
from mlassets.alerting.channels import BadChannel, NotSent, channel_of, channels_of
from mlassets_tests.alerting.receivers import PASSWORD, USER, certificate, hook, mail_server
from mlassets_tests.processes import free_port

AT = datetime(2026, 3, 1, 6, tzinfo=UTC)
LOGIN = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
ADDRESSES = "from=mlassets@example.org&to=ana@example.org,ben@example.org"


def made(number: int = 1, title: str = "late: beats_the_baseline failed for model of late|EWR") -> Alert:
    text = "Made at noon.\nIt is no better than the baseline. Ünïcode ✓ <!channel>"
    return alert(f"blocked/{number}", "blocked", "late", title, text, "http://127.0.0.1/r?a=1&b=2", AT)


pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "ANSWER_SECONDS", 0.5)


def test_a_file_gets_one_line_of_json_for_each_alert(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "ålerts.jsonl"
    channel = channel_of(f"file://{quote(str(path))}")
    channel.send([made(1), made(2)])
    channel.send([made(3)])
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [one["key"] for one in lines] == ["blocked/1", "blocked/2", "blocked/3"]
    assert lines[0] == made(1).as_dict()
    with pytest.raises(NotSent, match="Is a directory"):
        channel_of(f"file://{tmp_path}").send([made()])


def test_a_webhook_gets_json() -> None:
    with hook() as server:
        channel_of(server.url).send([made()])
    (body,) = server.posted
    assert body["title"] == made().title
    assert body["alerts"] == [made().as_dict()]
    assert (body["count"], body["link"]) == (1, made().link)


def test_slack_gets_one_text_in_which_nothing_of_ours_is_a_mention() -> None:
    with hook() as server:
        channel_of(f"slack+{server.url}").send([made()])
    (body,) = server.posted
    assert body["text"].startswith(f"*{made().title}*\n")
    assert "&lt;!channel&gt;" in body["text"]
    assert body["text"].endswith("<http://127.0.0.1/r?a=1&amp;b=2|Look>")


def test_a_thousand_alerts_are_one_message_that_says_how_many() -> None:
    with hook() as server:
        channel_of(server.url).send([made(number) for number in range(1000)])
    (body,) = server.posted
    assert body["title"] == "1,000 alerts of late"
    assert body["count"] == 1000
    assert "and 960 more" in body["text"]
    assert len(json.dumps(body)) < 200_000


def test_mail_goes_to_everybody_over_tls_with_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    for scheme, implicit in (("smtp", False), ("smtps", True)):
        with mail_server(path, implicit=implicit, password=True) as server:
            channel = channel_of(f"{scheme}://{LOGIN}@127.0.0.1:{server.port}?{ADDRESSES}")
            channel.send([made()])
            channel.send([made()])
        first, second = server.mails
        assert server.recipients[0] == ["ana@example.org", "ben@example.org"]
        assert first["Subject"] == f"[mlassets] {made().title}"
        assert first["From"] == "mlassets@example.org"
        assert first["To"] == "ana@example.org, ben@example.org"
        assert "Ünïcode ✓" in first.get_content()
        assert made().link in first.get_content()
        assert first["Message-ID"] == second["Message-ID"]


def test_mail_without_a_password_needs_no_tls() -> None:
    with mail_server() as server:
        channel_of(f"smtp://127.0.0.1:{server.port}?{ADDRESSES}").send([made()])
    assert len(server.mails) == 1


def test_names_cannot_add_a_header() -> None:
    hostile = alert(
        "k", "blocked", "late", "late\r\nBcc: eve@example.org\n\nbody\x00\x1b[31m\u202e", "text", at=AT
    )
    with mail_server() as server:
        channel_of(f"smtp://127.0.0.1:{server.port}?{ADDRESSES}").send([hostile])
    (mail,) = server.mails
    assert mail["Bcc"] is None
    assert mail["Subject"] == "[mlassets] late Bcc: eve@example.org body [31m"
    assert mail.get_content().strip() == "text"


@given(st.text(max_size=400), st.text(max_size=400))
def test_whatever_the_texts_are_a_message_can_be_made_of_them(title: str, text: str) -> None:
    one = alert("k", "blocked", "late", title, text * 20, at=AT)
    assert len(one.title) <= TITLE_LENGTH
    assert len(one.text) <= TEXT_LENGTH
    assert not {category(character) for character in one.title} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    channel = channel_of(f"smtp://127.0.0.1:1?{ADDRESSES}")
    bytes(channel._mail(message_of([one])))  # type: ignore[attr-defined]
    json.dumps(one.as_dict()).encode()


@pytest.mark.parametrize(
    ("status", "says"), [(500, "500"), (404, "404"), (302, "a redirection"), (0, "no answer within")]
)
def test_a_server_that_does_not_take_it_is_told(status: int, says: str) -> None:
    with hook() as server:
        server.status = status
        with pytest.raises(NotSent, match=says) as told:
            channel_of(server.url).send([made()])
        assert server.asked == 1
        assert str(told.value).startswith(f"webhook 127.0.0.1:{server.port}: ")
        assert "secret" not in str(told.value)


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}/s3cret", "smtp://u:s3cret@127.0.0.1:{}?{}"])
def test_a_server_that_is_down_is_told_without_the_secret(form: str) -> None:
    with pytest.raises(NotSent, match="refused; is it running") as told:
        channel_of(form.format(free_port(), ADDRESSES)).send([made()])
    assert "s3cret" not in str(told.value)
    assert told.value.__cause__ is None


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    path = certificate(tmp_path)
    with hook(path) as server, pytest.raises(NotSent, match="TLS failed"):
        channel_of(server.url.replace("http:", "https:")).send([made()])
    with mail_server(path) as mail, pytest.raises(NotSent, match="TLS failed"):
        channel_of(f"smtp://127.0.0.1:{mail.port}?{ADDRESSES}").send([made()])
    assert not mail.mails


def test_a_wrong_password_is_told_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with mail_server(path, password=True) as server:
        url = f"smtp://{quote(USER, safe='')}:wr0ng@127.0.0.1:{server.port}?{ADDRESSES}"
        with pytest.raises(NotSent, match="refuses the user or the password") as told:
            channel_of(url).send([made()])
    assert "wr0ng" not in str(told.value)


def test_a_password_is_not_sent_in_clear_unless_asked_for() -> None:
    with mail_server(password=True) as server:
        url = f"smtp://{LOGIN}@127.0.0.1:{server.port}?{ADDRESSES}"
        with pytest.raises(NotSent, match="offers no TLS, and a password is not sent in clear"):
            channel_of(url).send([made()])
        channel_of(f"{url}&tls=off").send([made()])
    assert len(server.mails) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "begins with none of"),
        ("ftp://s3cret@example.org", "begins with none of"),
        ("s3cret", "begins with none of"),
        ("https://", "names no host"),
        ("https://example.org:s3cret/x", "port is no number"),
        ("https://example.org:99999/s3cret", "port is no number"),
        ("file:alerts.jsonl", "three slashes"),
        ("file://host/alerts.jsonl", "three slashes"),
        ("smtp://u:s3cret@example.org", "mail addresses"),
        ("smtp://u:s3cret@example.org?from=a@example.org", "no to="),
        ("smtp://u:s3cret@example.org?from=a&to=b@example.org", "mail addresses"),
        ("smtp://u:s3cret@example.org?from=a@example.org&to=b@example.org&cc=s3cret@x.org", "no cc"),
        ("smtp://u:s3cr%C3%A9t@example.org?from=a@example.org&to=b@example.org", "ASCII"),
        ("smtp://?from=a@example.org&to=b@example.org", "names no host"),
        ("smtp://[::1?from=a@example.org&to=b@example.org", "cannot be used"),
    ],
)
def test_a_wrong_url_is_refused_by_its_place_and_never_quoted(url: str, says: str) -> None:
    with pytest.raises(BadChannel, match=says) as told:
        channels_of(["https://example.org/fine", url])
    assert "alert channel 2 of MLASSETS_ALERTS" in str(told.value)
    assert "s3cret" not in str(told.value)


def test_a_channel_never_shows_its_url() -> None:
    for url in (
        "https://u:s3cret@example.org/s3cret?s3cret",
        f"smtp://u:s3cret@example.org?{ADDRESSES}",
        "slack+https://hooks.slack.com/services/s3cret",
    ):
        channel = channel_of(url)
        assert "s3cret" not in f"{channel.name} {channel.id} {channel!r}"
    assert len(channels_of(["https://a.example", "https://a.example", "https://b.example"])) == 2
