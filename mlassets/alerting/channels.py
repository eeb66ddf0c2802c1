"""Where alerts go: a webhook, Slack, e-mail or a file, each chosen by a URL in the settings.

No secret of a URL is ever part of a name, an error or a log: a channel is named by its kind and host alone.
"""

import json
import os
import smtplib
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, getaddresses
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from blake3 import blake3

from mlassets.alerting.alerts import Alert, Message, alert, message_of, one_line
from resources.errors import MlassetsError

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 10.0
LISTED = 200
_FORMS = (
    "file:///var/log/mlassets-alerts.jsonl",
    "https://example.org/hooks/mlassets",
    "slack+https://hooks.slack.com/services/…",
    "smtp://user:password@mail.example.org:587?from=mlassets@example.org&to=ana@example.org,ben@example.org",
)


class BadChannel(MlassetsError):
    """An alert channel in the settings cannot be used; MLASSETS_ALERTS says where alerts go."""


class NotSent(MlassetsError):
    """An alert could not be handed over: the server is down, slow, or refuses it."""


class Channel(ABC):
    """One place that alerts go to.

    Attributes:
        name: Kind and host, for people; never a secret.
        id: Equal for the same URL; says nothing of it.
    """

    name: str

    def __init__(self, url: str) -> None:
        """Keep which URL it is, but not the URL."""
        self.id = str(blake3(url.encode()).hexdigest()[:12])

    @abstractmethod
    def send(self, alerts: Sequence[Alert]) -> None:
        """Hand over alerts as one message.

        Raises:
            NotSent: If it is not certain that they were taken.
        """

    @abstractmethod
    def probe(self) -> None:
        """Do all of sending but the sending.

        Raises:
            NotSent: If alerts could not be sent now.
        """


def channel_of(url: str, position: int = 1) -> Channel:
    """Return the channel that a URL of the settings names.

    Args:
        url: The URL.
        position: Its place in the list, by which an error names it.

    Raises:
        BadChannel: If it names none.
    """
    try:
        parts = urlsplit(url.strip())
        makers: Mapping[str, Callable[[str, SplitResult], Channel]] = {
            "file": FileChannel,
            "http": WebhookChannel,
            "https": WebhookChannel,
            "slack+http": SlackChannel,
            "slack+https": SlackChannel,
            "smtp": MailChannel,
            "smtps": MailChannel,
        }
        if parts.scheme not in makers:
            raise ValueError(f"it begins with none of {', '.join(f'{scheme}://' for scheme in makers)}")
        return makers[parts.scheme](url, parts)
    except ValueError as error:
        forms = "".join(f"\n  {form}" for form in _FORMS)
        # What urlsplit says of a wrong port quotes the URL.
        why = "its port is no number" if "port" in str(error).lower() else str(error)
        raise BadChannel(
            f"alert channel {position} of MLASSETS_ALERTS cannot be used: {why}. Channels look like:{forms}"
        ) from None


def channels_of(urls: Sequence[str]) -> list[Channel]:
    """Return the channels of the settings, each once.

    Raises:
        BadChannel: If a URL names none.
    """
    found = [channel_of(url, position) for position, url in enumerate(urls, 1)]
    return list({one.id: one for one in found}.values())


def sample_alert(link: str = "") -> Alert:
    """Return an alert that says that it is none."""
    now = datetime.now(UTC)
    where = socket.gethostname()
    text = f"Sent by `mlassets alerts --test` on {where} at {now:%Y-%m-%d %H:%M:%S} UTC. Nothing needs to be done."
    return alert(f"test/{where}/{now.isoformat()}", "test", "", f"test alert from {where}", text, link, now)


class FileChannel(Channel):
    """Appends one line of JSON for each alert to a file."""

    def __init__(self, url: str, parts: SplitResult) -> None:
        """Read the path."""
        super().__init__(url)
        if (
            parts.netloc not in ("", "localhost")
            or not parts.path.startswith("/")
            or parts.path.endswith("/")
        ):
            raise ValueError("a file's URL has three slashes and an absolute path")
        self._path = Path(unquote(parts.path))
        self.name = f"file {self._path}"

    def send(self, alerts: Sequence[Alert]) -> None:
        """Append the alerts."""
        self._append("".join(json.dumps(one.as_dict(), ensure_ascii=False) + "\n" for one in alerts))

    def probe(self) -> None:
        """Append nothing."""
        self._append("")

    def _append(self, lines: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                file.write(lines.encode("utf-8", "replace"))
                os.fsync(file.fileno())
        except OSError as error:
            raise NotSent(f"{self.name}: {error.strerror or error}") from error


class WebhookChannel(Channel):
    """Posts JSON: `id`, `title`, `text`, `link`, and under `alerts` each of them."""

    kind = "webhook"

    def __init__(self, url: str, parts: SplitResult) -> None:
        """Read the address."""
        super().__init__(url)
        if not parts.hostname:
            raise ValueError("it names no host")
        _port(parts)
        self.name = f"{self.kind} {_place(parts)}"
        self._url = urlunsplit(parts._replace(scheme=parts.scheme.removeprefix("slack+")))

    def send(self, alerts: Sequence[Alert]) -> None:
        """Post the alerts."""
        import requests

        try:
            answer = requests.post(
                self._url,
                data=json.dumps(self._body(message_of(alerts))).encode(),
                headers={"Content-Type": "application/json; charset=utf-8", "User-Agent": "mlassets"},
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
                allow_redirects=False,
                # How long an answer is, is up to the server: its first line is enough.
                stream=True,
            )
            answer.close()
        except requests.RequestException as error:
            # Its text would quote the URL.
            raise NotSent(f"{self.name}: {_why(error)}") from None
        if 300 <= answer.status_code < 400:
            raise NotSent(
                f"{self.name}: answered {answer.status_code}, a redirection; write the address it leads to"
            )
        if not answer.ok:
            raise NotSent(f"{self.name}: answered {answer.status_code} {answer.reason}")

    def probe(self) -> None:
        """Connect; a server says only of what is posted whether it takes it."""
        parts = urlsplit(self._url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        try:
            with socket.create_connection(
                (host, parts.port or (443 if secure else 80)), CONNECT_SECONDS
            ) as found:
                if secure:
                    context = ssl.create_default_context(cafile=os.environ.get("REQUESTS_CA_BUNDLE"))
                    context.wrap_socket(found, server_hostname=host).close()
        except OSError as error:
            raise NotSent(f"{self.name}: {_why(error)}") from None

    def _body(self, message: Message) -> dict[str, object]:
        return {
            "id": message.id,
            "title": message.title,
            "text": message.text,
            "link": message.link,
            "count": len(message.alerts),
            "alerts": [one.as_dict() for one in message.alerts[:LISTED]],
        }


class SlackChannel(WebhookChannel):
    """Posts to an incoming webhook of Slack, or of what speaks like it (Mattermost, Rocket.Chat)."""

    kind = "Slack"

    def _body(self, message: Message) -> dict[str, object]:
        lines = [f"*{_slack(message.title)}*", _slack(message.text)]
        if message.link:
            lines.append(f"<{_slack(message.link)}|Look>")
        return {"text": "\n".join(line for line in lines if line), "unfurl_links": False}


class MailChannel(Channel):
    """Sends mail by SMTP: `smtp://` with STARTTLS where the server offers it, `smtps://` with TLS from the start.

    A password is sent only over TLS, but for `tls=off`.
    """

    def __init__(self, url: str, parts: SplitResult) -> None:
        """Read server, user and addresses."""
        super().__init__(url)
        asked = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(set(asked) - {"from", "to", "tls"}):
            raise ValueError(f"a mail server's URL has no {', '.join(unknown)}; it has from, to and tls=off")
        if not parts.hostname:
            raise ValueError("it names no host")
        self._host = parts.hostname
        self._implicit = parts.scheme == "smtps"
        self._port = _port(parts) or (465 if self._implicit else 587 if parts.username else 25)
        self._tls = asked.get("tls", "on") != "off"
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        if not (self._user + self._password).isascii():
            raise ValueError("mail servers are given users and passwords in ASCII letters only")
        self._from = _address(asked.get("from") or "")
        self._to = [_address(text) for _, text in getaddresses([asked.get("to", "")]) if text]
        if not self._to:
            raise ValueError("it says no to=; write ?from=mlassets@example.org&to=ana@example.org")
        self.name = f"mail server {_place(parts)}"

    def send(self, alerts: Sequence[Alert]) -> None:
        """Mail the alerts."""
        mail = self._mail(message_of(alerts))
        with self._talking() as server:
            server.send_message(mail, str(self._from), [str(one) for one in self._to])

    def probe(self) -> None:
        """Connect and log in."""
        with self._talking():
            pass

    @contextmanager
    def _talking(self) -> Iterator[smtplib.SMTP]:
        try:
            with self._connection() as server:
                yield server
        except (OSError, smtplib.SMTPException, MessageError, UnicodeError) as error:
            # A server's answer may quote the user, but never the password: that is sent in another coding.
            raise NotSent(f"{self.name}: {one_line(_why(error), 300)}") from None

    def _connection(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self._implicit:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=ANSWER_SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=ANSWER_SECONDS)
        try:
            server.ehlo_or_helo_if_needed()
            if not self._implicit and self._tls and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
            elif not self._implicit and self._tls and self._password:
                raise smtplib.SMTPException(
                    "it offers no TLS, and a password is not sent in clear; add tls=off to send it nevertheless"
                )
            if self._user:
                server.login(self._user, self._password)
        except BaseException:
            server.close()
            raise
        return server

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage(policy=SMTP)
        mail["Subject"] = f"[mlassets] {message.title}"
        mail["From"] = self._from
        mail["To"] = self._to
        mail["Date"] = format_datetime(datetime.now(UTC))
        # The same for the same alert, so that one that was sent twice is shown once.
        mail["Message-ID"] = f"<{message.id}@{self._from.domain or 'mlassets'}>"
        mail["Auto-Submitted"] = "auto-generated"
        text = "\n\n".join(part for part in (message.text, message.link) if part)
        mail.set_content(text + "\n", charset="utf-8")
        return mail


def _address(text: str) -> Address:
    try:
        address = Address(addr_spec=text.strip())
    except (MessageError, ValueError, IndexError):
        address = Address()
    if not address.username or not address.domain or not address.addr_spec.isascii():
        raise ValueError(
            "from= and to= hold mail addresses, as ?from=mlassets@example.org&to=ana@example.org"
        )
    return address


def _port(parts: SplitResult) -> int | None:
    return parts.port


def _place(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{host}:{parts.port}" if parts.port else host


def _slack(text: str) -> str:
    """Escape what Slack reads as a mention or a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _why(error: BaseException) -> str:
    """Say why nothing was sent, in words that hold no URL."""
    import requests

    below: BaseException | None = error
    while below is not None:
        if isinstance(below, ssl.SSLError):
            return f"TLS failed: {below.reason or getattr(below, 'verify_message', '') or 'the connection broke'}"
        if isinstance(below, ConnectionRefusedError):
            return "the connection was refused; is it running?"
        if isinstance(below, socket.gaierror):
            return "there is no such host"
        if isinstance(below, TimeoutError | requests.Timeout):
            return f"no answer within {ANSWER_SECONDS:g} s"
        below = below.__cause__ or below.__context__ or _reason(below)
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it refuses the user or the password ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"it refuses the recipients {', '.join(error.recipients)}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"answered {error.smtp_code} {error.smtp_error!r}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, requests.RequestException):
        return "the connection broke" if isinstance(error, requests.ConnectionError) else type(error).__name__
    return str(error) if isinstance(error, smtplib.SMTPException) and str(error) else type(error).__name__


def _reason(error: BaseException) -> BaseException | None:
    """Return what urllib3 keeps as a reason or an argument instead of a cause."""
    for one in (getattr(error, "reason", None), *error.args):
        if isinstance(one, BaseException):
            return one
    return None
