# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: S608 - its SQL is made of constants
"""A throwaway MariaDB server that is new and gets a set's dumps: how sets of the method logical are brought up.

The dumps flow from the repository into one client session each; none lands on disk. The client runs shut off as the
server does, and not as root: a line of a dump can be a command to the client.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import DamagedError, PipelineError, PrerequisiteError
from ...manifest import Artefact
from ...process import Pipeline, failure, find_tool, run
from ..program import program_stage
from ..scratch import PASSED, Check
from . import dump_watch
from .inspect import series
from .logical import ACCOUNTS, DATABASES, LAYOUT, PLAIN, require_counted
from .scratch import ACCOUNT, OWN_FOLDER, MariaDBScratch, tool_versions

_DAY = 24 * 3600.0
_INSTALL_SECONDS = 600.0
_PACKAGE = "mariadb-server-core"
# Who may give on roles that are there, and the right PROXY, is who the dump names; it is read a second time.
_MAY_GIVE = (
    "SET SESSION sql_log_bin=0; REPLACE INTO mysql.roles_mapping (Host, User, Role, Admin_option)"
    f" SELECT 'localhost', '{ACCOUNT}', User, 'Y' FROM mysql.global_priv WHERE JSON_VALUE(Priv, '$.is_role') = 1;"
    "REPLACE INTO mysql.proxies_priv (Host, User, Proxied_host, Proxied_user, With_grant, Grantor)"
    f" VALUES ('localhost', '{ACCOUNT}', '%', '', 1, ''); FLUSH LOCAL PRIVILEGES;"
)
_NO_LONGER = (
    f"SET SESSION sql_log_bin=0; DELETE FROM mysql.roles_mapping WHERE User = '{ACCOUNT}';"
    f"DELETE FROM mysql.proxies_priv WHERE User = '{ACCOUNT}'; FLUSH LOCAL PRIVILEGES;"
)


class MariaDBDumpScratch(MariaDBScratch):
    """One throwaway MariaDB server that a dump is loaded into."""

    _counts: Mapping[str, int] = {}

    @staticmethod
    def check_tools(manifest: Mapping[str, Any]) -> Mapping[str, str]:
        found = tool_versions(manifest, (("mariadbd", _PACKAGE),))
        _install_program(series(str(manifest["server"]["version"])))
        return found

    def unpack(self) -> None:
        self.data.mkdir(mode=0o700)
        self.sandbox.owner.give(self.data)
        words = ("--no-defaults", f"--datadir={self.data}", "--skip-test-db", *self._layout, *self._temporary)
        made = run(
            self.sandbox.stage(*_install_program(self._series), *words, label="mariadb-install-db"),
            timeout=_INSTALL_SECONDS,
            check=False,
        )
        if not made.ok:
            said = (made.stdout.decode("utf-8", "replace") + made.stderr).strip()
            raise PipelineError(f"No new MariaDB server could be made in {self.data}: {said[-1500:]}", "")
        super().start()
        self._empty_of_accounts()
        self._hand_over()
        accounts, databases = (self._artefact(name) for name in (ACCOUNTS, DATABASES))
        # Accounts come first: a view whose function's definer is missing cannot be made (error 1449). Rights on single
        # tables can be given only when these are there: then all of them once more, and none may be refused.
        self._load(accounts, "--force")
        counts = self._load(databases)
        self.client.query(_MAY_GIVE)
        self._counts = {**counts, **self._load(accounts)}
        self.client.query(_NO_LONGER)

    @property
    def _layout(self) -> list[str]:
        """Return how files are laid out: as production needs it, else as the server did that was dumped."""
        known = self.layout or self.source.manifest.get("engine_details", {}).get("layout", {})
        return [
            f"--{name.replace('_', '-')}={known[name]}" for name in LAYOUT if PLAIN.fullmatch(str(known.get(name, "")))
        ]

    def _command(self, start_file: Path) -> list[str]:
        # An event remembers the number of the server it was made on.
        number = str(self.source.manifest["server"].get("identity", {}).get("server_id") or "")
        own = [f"--server-id={number}"] if number.isdigit() and int(number) else []
        return [*super()._command(start_file), *self._layout, *own]

    def _empty_of_accounts(self) -> None:
        """Remove the administrators that a new server comes with: the dump makes none anew that is there already."""
        rows = self.client.query(
            "SELECT User, Host FROM mysql.global_priv WHERE COALESCE(JSON_VALUE(Priv, '$.is_role'), 0) <> 1"
            f" AND User NOT IN ('{ACCOUNT}', 'mariadb.sys', 'PUBLIC');"
        )
        for user, host in rows:
            self.client.query(f"SET SESSION sql_log_bin=0; DROP USER {_account(user or '', host or '')};")

    def _artefact(self, name: str) -> Artefact:
        for each in self.source.artefacts:
            if each.name.startswith(name):
                return each
        raise DamagedError(
            f"The set {self.source.manifest['set']} has no {name}.", "Make a new full backup now.", {"file": name}
        )

    @property
    def _load_file(self) -> Path:
        return self.folder / "load.cnf"

    def _hand_over(self) -> None:
        """Let the server's own user connect, too."""
        descriptor = os.open(self._load_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(self.client.option_file.read_text(encoding="utf-8"))
        os.chown(self._load_file, self.sandbox.owner.uid, self.sandbox.owner.gid)

    def _load(self, artefact: Artefact, *words: str) -> dict[str, int]:
        """Load one dump; return how many objects of each kind stand in it.

        :raises PipelineError: if it is refused, or does not come to its end.
        """
        seen = self.folder / "seen.json"
        watch = program_stage(dump_watch.__name__, self.folder, str(seen), label=f"the check of {artefact.name}")
        client = self.sandbox.stage(
            *(find_tool("mariadb", "mariadb-client"), f"--defaults-file={self._load_file}", "--batch"),
            *("--default-character-set=utf8mb4", "--max-allowed-packet=1G", "--skip-reconnect", *words),
            # The throwaway's own log would hold every row once more.
            "--init-command=SET SESSION sql_log_bin=0",
            label=f"the loading of {artefact.name}",
        )
        with Pipeline([*self.source.artefact_stages(artefact), watch, client]) as pipeline:
            pipeline.output.read()
            finished = pipeline.wait(timeout=_DAY)
        if not all(stage.ok for stage in finished):
            raise failure(finished)
        counts: dict[str, int] = json.loads(seen.read_text(encoding="utf-8"))["counts"]
        return counts

    def verify_base(self) -> Sequence[Check]:
        require_counted(self.source.manifest, self._counts)
        return [Check("mariadb-dump: loaded whole, accounts and rights without a refusal", PASSED)]

    def start(self) -> None:
        """Do nothing: a dump is unpacked by loading it, so that the server runs already."""


def _account(user: str, host: str) -> str:
    """Return an account as MariaDB reads it in a statement."""
    return "@".join("'" + part.replace("\\", "\\\\").replace("'", "''") + "'" for part in (user, host))


def _install_program(wanted: str) -> tuple[str, ...]:
    """Return the command that makes a new server of a series.

    :raises PrerequisiteError: if it is not on this host.
    """
    own = Path(OWN_FOLDER.format(wanted))
    for folder in ("scripts", "bin"):
        if (own / folder / "mariadb-install-db").is_file():
            return str(own / folder / "mariadb-install-db"), f"--basedir={own}"
    if (own / "bin" / "mariadbd").is_file():
        raise PrerequisiteError(
            f"{own} has a server and no mariadb-install-db.",
            f"Unpack all of MariaDB {wanted} there.",
            {"series": wanted},
        )
    return (find_tool("mariadb-install-db", _PACKAGE),)
