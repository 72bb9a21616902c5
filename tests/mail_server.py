# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that notices really reach, for tests: a mail server that speaks SMTP, and one that takes HTTP requests.

python -m tests.mail_server FOLDER MAIL_PORT WEB_PORT     keeps each letter and each request as a file; for test hosts
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import socketserver
import ssl
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Optional, cast


@dataclass
class Letters:
    """What a mail server received, and how it behaves.

    :ivar context: offers STARTTLS with it; *wrapped*: speaks TLS from the first byte.
    :ivar password: demands this login.
    :ivar refuse: recipients that are refused.
    :ivar broken: answers every letter with a code and words that hold a secret.
    """

    context: Optional[ssl.SSLContext] = None
    wrapped: bool = False
    login: str = ""
    password: str = ""
    refuse: tuple[str, ...] = ()
    broken: bool = False
    port: int = 0
    taken: list[tuple[list[str], bytes]] = field(default_factory=list)
    protected: list[bool] = field(default_factory=list)

    def messages(self) -> list[EmailMessage]:
        return [message_from_bytes(data, policy=policy.default) for _to, data in self.taken]


class _Talk(socketserver.StreamRequestHandler):
    """One conversation."""

    letters: Letters

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self._talk()

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")
        self.wfile.flush()

    def _talk(self) -> None:
        letters, protected, known = self.letters, False, not self.letters.password
        to: list[str] = []
        if letters.wrapped:
            protected = self._protect()
        self._say("220 test")
        while True:
            line = self.rfile.readline().decode().strip()
            verb = line.upper()
            if not line or verb == "QUIT":
                self._say("221 bye")
                return
            if verb.startswith("EHLO"):
                self._say("250-test")
                if letters.context and not protected:
                    self._say("250-STARTTLS")
                self._say("250 AUTH PLAIN" if letters.password else "250 OK")
            elif verb == "STARTTLS":
                self._say("220 go on")
                protected = self._protect()
            elif verb.startswith("AUTH PLAIN"):
                given = base64.b64decode(line.split()[2]).decode().split("\0")[1:]
                known = given == [letters.login, letters.password]
                self._say("235 in" if known else f"535 wrong: {given[1]}")
            elif verb.startswith("MAIL"):
                to = []
                self._say("250 OK" if known else "530 log in")
            elif verb.startswith("RCPT"):
                address = line.partition("<")[2].partition(">")[0]
                refused = address in letters.refuse
                to += [] if refused else [address]
                self._say("550 no" if refused else "250 OK")
            elif verb == "DATA":
                self._say("354 go")
                data = b""
                while not data.endswith(b"\r\n.\r\n"):
                    line_of_it = self.rfile.readline()
                    if not line_of_it:
                        return  # whoever spoke is gone
                    data += line_of_it
                if letters.broken:
                    self._say("554 refused because of canary-in-an-answer")
                else:
                    letters.taken.append((to, data[:-5]))
                    letters.protected.append(protected)
                    self._say("250 taken")
            else:
                self._say("250 OK")

    def _protect(self) -> bool:
        assert self.letters.context is not None
        self.connection = self.letters.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = cast(Any, self.connection.makefile("wb"))
        return True


@contextlib.contextmanager
def mail_server(letters: Letters, port: int = 0) -> Iterator[Letters]:
    """Run a mail server on the loopback interface."""
    handler = type("Talk", (_Talk,), {"letters": letters})
    with socketserver.ThreadingTCPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        letters.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield letters
        finally:
            server.shutdown()


@dataclass
class Requests:
    """What a web server was asked, and how it behaves.

    :ivar status: what it answers; *slow_seconds*: after so long.
    """

    status: int = 200
    slow_seconds: float = 0.0
    location: str = ""
    url: str = ""
    taken: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for method, _path, _headers, body in self.taken if method == "POST"]


@contextlib.contextmanager
def web_server(requests: Requests, context: Optional[ssl.SSLContext] = None, port: int = 0) -> Iterator[Requests]:
    """Run a web server on the loopback interface."""
    wake = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            requests.taken.append((self.command, self.path, dict(self.headers), body))
            wake.wait(requests.slow_seconds)
            self.send_response(requests.status)
            if requests.location:
                self.send_header("Location", requests.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = _take

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        requests.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield requests
        finally:
            wake.set()
            server.shutdown()


def main(folder: Path, mail_port: int, web_port: int) -> None:
    """Keep each letter and each request that comes as a file."""
    letters, requests = Letters(), Requests()
    folder.mkdir(exist_ok=True)
    with mail_server(letters, mail_port), web_server(requests, port=web_port):
        mails = asked = 0
        while True:
            threading.Event().wait(0.2)
            for number, (_to, data) in enumerate(letters.taken[mails:], mails + 1):
                (folder / f"{number:04d}.eml").write_bytes(data)
                mails = number
            for number, (method, path, _headers, body) in enumerate(requests.taken[asked:], asked + 1):
                text = json.dumps({"method": method, "path": path, "body": body.decode()})
                (folder / f"{number:04d}.json").write_text(text)
                asked = number


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
