# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways a notice takes to people: mail, a webhook, a dead man's switch.

A channel that does not work must not make anything else fail, and must not stay unnoticed: :func:`deliver` returns what is
wrong with it in words of our own. What a server answers, an address that holds a token and a password are never repeated.
"""

from __future__ import annotations

import json
import re
import smtplib
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from http.client import HTTPException
from typing import IO, Any, Optional
from urllib.parse import urlsplit

from .errors import InputError

TIMEOUT_SECONDS = 20.0  # of one step of the talk with a server
DEADLINE_SECONDS = 45.0  # of all channels together: a server that answers drop by drop is dead, too
REPEAT_HOURS = 6.0
NO_ANSWER = f"no answer within {DEADLINE_SECONDS:.0f} seconds"
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_ADDRESS = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:-]{0,63}", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Notice:
    """What people are told.

    :ivar subject: one line of ASCII.
    :ivar text: the whole, for a person.
    :ivar data: the same for machines, plain JSON.
    """

    subject: str
    text: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Channel(ABC):
    """One way to people.

    :ivar name: what it is called in journal, ledger and status; holds no secret.
    :ivar activities: the activities it is for; all where it is empty.
    :ivar ca_file: certificates (PEM) its server is verified with, instead of the system's.
    """

    kind = ""
    name: str
    activities: tuple[str, ...]
    ca_file: Optional[str]

    def concerns(self, activity: str) -> bool:
        """Return whether this channel is for the activity."""
        return not self.activities or activity in self.activities

    @abstractmethod
    def send(self, notice: Notice) -> None:
        """Send it, or raise whatever went wrong."""

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)


@dataclass(frozen=True)
class Mail(Channel):
    """Mail by SMTP, one letter to all recipients."""

    kind = "mail"
    to: tuple[str, ...]
    sender: str
    server: str
    port: int
    tls: str
    username: str
    password: str = field(repr=False)

    def send(self, notice: Notice) -> None:
        letter = EmailMessage()
        letter["From"] = self.sender
        letter["To"] = ", ".join(self.to)
        letter["Subject"] = notice.subject
        letter["Date"] = formatdate()
        letter["Message-ID"] = make_msgid(domain=self.sender.rpartition("@")[2])
        letter["Auto-Submitted"] = "auto-generated"  # so that nobody's holiday program answers
        letter.set_content(notice.text)
        with self._connect() as server:
            if self.tls == "starttls":
                server.starttls(context=self._context())
            if self.username:
                server.login(self.username, self.password)
            refused = server.send_message(letter)
        if refused:
            raise Refusal(f"the server refused {len(refused)} of {len(self.to)} recipients")

    def _connect(self) -> smtplib.SMTP:
        # Python would ask the network for a full name, which can take as long as it likes.
        own = socket.gethostname()
        if self.tls == "tls":
            return smtplib.SMTP_SSL(self.server, self.port, own, timeout=TIMEOUT_SECONDS, context=self._context())
        return smtplib.SMTP(self.server, self.port, own, timeout=TIMEOUT_SECONDS)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the headers, and what is in them, to whomever it names."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


@dataclass(frozen=True)
class Webhook(Channel):
    """An HTTP POST of the notice as JSON; its ``text`` is what most chat services show."""

    kind = "webhook"
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    def send(self, notice: Notice) -> None:
        body = json.dumps({**notice.data, "text": f"{notice.subject}\n\n{notice.text}"}).encode()
        self._ask(urllib.request.Request(self.url, body, {**self.headers, "Content-Type": "application/json"}))  # noqa: S310 - http and https only

    def _ask(self, request: urllib.request.Request) -> None:
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=self._context()), _NoRedirect())
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            if answer.status >= 300:
                raise Refusal(f"the server answered with HTTP status {answer.status}")


@dataclass(frozen=True)
class Heartbeat(Webhook):
    """A dead man's switch: its address is asked for after each success; whoever watches it alarms when that stops."""

    kind = "heartbeat"

    def send(self, notice: Notice) -> None:
        self._ask(urllib.request.Request(self.url, headers=dict(self.headers)))  # noqa: S310 - http and https only


class Refusal(Exception):
    """A server took the notice badly; the text is ours."""


def words(error: BaseException) -> str:
    """Return what went wrong with a channel, without a word of what its server said."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else None
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered with HTTP status {error.code}"
    if isinstance(reason, BaseException):
        return words(reason)
    if isinstance(error, Refusal):
        return str(error)
    known: tuple[tuple[type[BaseException], str], ...] = (
        (ssl.SSLCertVerificationError, "the server's certificate is not trusted"),
        (ssl.SSLError, "no protected connection (TLS) came about"),
        (socket.gaierror, "the server's name cannot be resolved"),
        (ConnectionRefusedError, "the connection was refused"),
        (TimeoutError, "no answer in time"),
        (smtplib.SMTPAuthenticationError, "the server refused the login"),
        (smtplib.SMTPRecipientsRefused, "the server refused every recipient"),
        (smtplib.SMTPSenderRefused, "the server refused the sender"),
        (smtplib.SMTPNotSupportedError, "the server does not offer what is asked for (STARTTLS, login)"),
        (smtplib.SMTPServerDisconnected, "the server ended the connection"),
        (FileNotFoundError, "ca_file is missing"),
    )
    for kind, text in known:
        if isinstance(error, kind):
            return text
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server answered with SMTP code {error.smtp_code}"
    if isinstance(error, (OSError, HTTPException, smtplib.SMTPException)):
        return f"no connection ({type(error).__name__})"
    return f"unexpected {type(error).__name__}"


def deliver(
    notices: Sequence[tuple[Channel, Notice]], deadline_seconds: float = DEADLINE_SECONDS
) -> dict[str, Optional[str]]:
    """Send each notice through its channel, side by side; return by channel name what went wrong, None where nothing did.

    A channel that has not answered by the deadline is left alone: its thread ends with the process.
    """
    outcome: dict[str, Optional[str]] = {channel.name: NO_ANSWER for channel, _notice in notices}
    told: dict[str, Optional[str]] = {}

    def one(channel: Channel, notice: Notice) -> None:
        try:
            channel.send(notice)
            told[channel.name] = None
        except Exception as error:  # noqa: BLE001 - a channel that does not work fails nothing; it is told
            told[channel.name] = words(error)

    threads = [threading.Thread(target=one, args=each, daemon=True) for each in notices]
    for thread in threads:
        thread.start()
    end = time.monotonic() + deadline_seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return {**outcome, **dict(told)}


def channels_from(values: object) -> list[Channel]:
    """Return the channels that ``dbc_notify`` describes.

    :raises InputError: naming the entry, what is wrong and the remedy; never a value that could be secret.
    """
    if not isinstance(values, (list, tuple)):
        raise InputError("dbc_notify is no list.", "Write one entry for each channel, each with its kind.")
    channels: list[Channel] = []
    for number, value in enumerate(values, 1):
        entry = _Entry(number, value)
        kind = entry.text("kind")
        if kind not in _MAKERS:
            raise entry.wrong("kind", f"is none of {', '.join(_MAKERS)}")
        channel = _MAKERS[kind](entry)
        entry.nothing_else()
        if channel.name in {each.name for each in channels}:
            raise entry.wrong("name", f"{channel.name!r} is another entry's, too: give each a name of its own")
        channels.append(channel)
    return channels


class _Entry:
    """One entry of ``dbc_notify``, whose keys are taken one by one."""

    def __init__(self, number: int, value: object) -> None:
        self._where = f"dbc_notify, entry {number}"
        if not isinstance(value, Mapping):
            raise InputError(f"{self._where} is no mapping.", "Give it a kind: mail, webhook or heartbeat.")
        self._left = dict(value)

    def wrong(self, key: str, what: str) -> InputError:
        return InputError(f"{self._where}: {key} {what}.", "docs/calendar.md shows an entry of each kind.")

    def text(self, key: str, otherwise: str = "") -> str:
        value = self._left.pop(key, None)
        if value is None:
            return otherwise
        if not isinstance(value, str) or not value.isprintable():
            raise self.wrong(key, "is no plain line of text; quote it in YAML")
        return value

    def listed(self, key: str) -> tuple[str, ...]:
        value = self._left.pop(key, None) or ()
        items = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else (None,)
        if not all(isinstance(each, str) and each.isprintable() for each in items):
            raise self.wrong(key, "is no list of text")
        return tuple(str(each) for each in items)

    def common(self, host: str, kind: str, activities: tuple[str, ...] = ()) -> dict[str, Any]:
        name = self.text("name", f"{kind} {host}")
        if not _NAME.fullmatch(name):
            raise self.wrong("name", "has other characters than letters, digits, space, dot, dash, underscore, colon")
        return {
            "name": name,
            "activities": self.listed("activities") or activities,
            "ca_file": self.text("ca_file") or None,
        }

    def port(self, otherwise: int) -> int:
        value = self._left.pop("port", None)
        if value is None:
            return otherwise
        if isinstance(value, bool) or not re.fullmatch(r"\d{1,5}", str(value)) or not 0 < int(value) < 65536:
            raise self.wrong("port", "is no number from 1 to 65535")
        return int(value)

    def headers(self) -> dict[str, str]:
        value = self._left.pop("headers", None) or {}
        if not isinstance(value, Mapping) or not all(
            isinstance(each, str) and each.isprintable() for pair in value.items() for each in pair
        ):
            raise self.wrong("headers", "is no mapping of text to text")
        return dict(value)

    def nothing_else(self) -> None:
        if self._left:
            raise self.wrong(", ".join(sorted(map(str, self._left))), "is not known")


def _mail(entry: _Entry) -> Mail:
    to, sender = entry.listed("to"), entry.text("from")
    if not to or not all(_ADDRESS.fullmatch(each) for each in to):
        raise entry.wrong("to", "names no address, or something that is none")
    if not _ADDRESS.fullmatch(sender):
        raise entry.wrong("from", "is no address")
    server, tls = entry.text("server"), entry.text("tls", "starttls")
    if not re.fullmatch(r"[A-Za-z0-9.:-]+", server):
        raise entry.wrong("server", "is no name or address of a host")
    if tls not in _PORTS:
        raise entry.wrong("tls", f"is none of {', '.join(_PORTS)}; quote it in YAML")
    username, password = entry.text("username"), entry.text("password")
    if bool(username) != bool(password):
        raise entry.wrong("username and password", "go together")
    if password and tls == "none" and server not in _LOOPBACK:
        raise entry.wrong("tls", "is none: the password would cross the network for all to read")
    return Mail(
        **entry.common(server, "mail"),
        to=to,
        sender=sender,
        server=server,
        port=entry.port(_PORTS[tls]),
        tls=tls,
        username=username,
        password=password,
    )


def _web(entry: _Entry, kind: type[Webhook], activities: tuple[str, ...] = ()) -> Webhook:
    url, headers = entry.text("url"), entry.headers()
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise entry.wrong("url", "cannot be read") from None
    if parts.scheme not in ("http", "https") or not host or " " in url:
        raise entry.wrong("url", "is no address that begins with https://")
    if parts.username or parts.password:
        raise entry.wrong("url", "holds a user name: put it into headers")
    if headers and parts.scheme == "http" and host not in _LOOPBACK:
        raise entry.wrong("url", "begins with http: the headers would cross the network for all to read")
    return kind(**entry.common(host, kind.kind, activities), url=url, headers=headers)


_MAKERS: Mapping[str, Callable[[_Entry], Channel]] = {
    "mail": _mail,
    "webhook": lambda entry: _web(entry, Webhook),
    "heartbeat": lambda entry: _web(entry, Heartbeat, ("log_cycle",)),
}
