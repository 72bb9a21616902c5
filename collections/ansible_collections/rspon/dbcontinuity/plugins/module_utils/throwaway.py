# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a throwaway server: an unprivileged user, no network, nothing writable but its own folder.

As root, each program gets its own network, mount and IPC namespaces (``unshare``): every file system but its folder is
read-only, so a log that names production's own places (a tablespace, a ``DATA DIRECTORY``) cannot write there, even
where production runs on the same host under the same user; its sockets in ``/run`` are out of sight, too. A transient
unit of systemd gives no more than that, and would outlive the process that started it. Each program dies with this
process (``--pdeathsig``, set again after the user was changed, which clears it).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from .errors import InputError, PipelineError, PrerequisiteError
from .process import Stage, child_environment, find_tool, run

_TAIL_BYTES = 16 * 1024
# The loop reads the mounts before it changes any; what the kernel itself shows as files stays as it is.
_ISOLATE = """
folder=$1
shift
mount -n --make-rprivate /
mount -n --bind "$folder" "$folder"
mounts=$(cat /proc/self/mounts)
printf '%s\\n' "$mounts" | while read -r device point kind options rest; do
  case "$point" in /proc|/proc/*|/sys|/sys/*|/dev|/dev/*|"$folder"|"$folder"/*) continue ;; esac
  mount -n -o remount,bind,ro "$point" 2>/dev/null || [ "$point" != / ]
done
# A socket is reached by its name, whatever the network and however its file system is mounted.
case "$folder" in /run/*) ;; *) mount -n -t tmpfs -o ro,size=4k tmpfs /run ;; esac
exec "$@"
"""


@dataclass(frozen=True)
class Owner:
    """The user a throwaway server runs as."""

    name: str
    uid: int
    gid: int

    @property
    def is_me(self) -> bool:
        """Return whether it is the user this process runs as."""
        return self.uid == os.geteuid()

    def give(self, folder: Path) -> None:
        """Let the user own a folder and all in it; links are owned, not followed."""
        if self.is_me:
            return
        for base, folders, files in os.walk(folder):
            for each in (*folders, *files):
                os.chown(os.path.join(base, each), self.uid, self.gid, follow_symlinks=False)
        os.chown(folder, self.uid, self.gid, follow_symlinks=False)


def present_user() -> Owner:
    """Return the user this process runs as."""
    me = pwd.getpwuid(os.geteuid())
    return Owner(me.pw_name, me.pw_uid, me.pw_gid)


def owner_for(given: str, defaults: Sequence[str]) -> Owner:
    """Return the user that throwaway servers run as.

    :param given: a name, or empty for the first of *defaults* that exists (as root), or for the present user.
    :raises InputError: if it is root, unknown, or another one and only root could become it.
    :raises PrerequisiteError: if none of the defaults exists.
    """
    if os.geteuid() != 0:
        me = present_user()
        if given and given != me.name:
            raise InputError(f"Only root can start a server as {given!r}.", f"Run as root, or leave out {given!r}.")
        return me
    for name in [given] if given else defaults:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid == 0:
            raise InputError(f"A throwaway server does not run as {name!r}, which is root.", "Name another user.")
        return Owner(found.pw_name, found.pw_uid, found.pw_gid)
    if given:
        raise InputError(f"There is no user {given!r} on this host.", "Create it, or name another one.")
    raise PrerequisiteError(
        f"None of the users {', '.join(defaults)} is on this host.",
        "Install the server's package, which brings its user, or name another user.",
    )


class Sandbox:
    """How the programs of one scratch folder are run.

    :ivar isolated: whether they get namespaces of their own; only root can give them.
    """

    def __init__(self, folder: Path, owner: Owner) -> None:
        self.folder = folder
        self.owner = owner
        self.temporary = folder / "tmp"
        self.temporary.mkdir(mode=0o700)
        owner.give(self.temporary)
        # Where the host's kernel or container gives no namespaces, the copy is brought up without, and the evidence says so.
        self.isolated = os.geteuid() == 0 and shutil.which("unshare") is not None
        if self.isolated:
            self.isolated = run(self.stage(find_tool("true", "coreutils"), label="unshare"), check=False).ok

    @property
    def environment(self) -> Mapping[str, str]:
        """Return what each program is told: the host's own folder for temporary files is read-only for it."""
        return {"TMPDIR": str(self.temporary)}

    def argv(self, *words: str) -> tuple[str, ...]:
        """Return the command that runs *words* there."""
        command: tuple[str, ...] = words
        if not self.owner.is_me:
            guard = (find_tool("setpriv", "util-linux"), f"--reuid={self.owner.uid}", f"--regid={self.owner.gid}")
            command = (*guard, "--clear-groups", "--pdeathsig", "KILL", "--", *command)
        if self.isolated:
            shell = (find_tool("sh", "dash"), "-ec", _ISOLATE, "sh", str(self.folder))
            command = (*_UNSHARE, *shell, *command)
        return command

    def stage(self, *words: str, label: str) -> Stage:
        """Return the stage that runs *words* there."""
        return Stage(self.argv(*words), label=label, environment=self.environment)

    def describe(self) -> str:
        """Return how far the programs are shut off, for the evidence."""
        return "own network, mount and IPC namespaces" if self.isolated else "no network listener"


_UNSHARE = ("unshare", "--net", "--mount", "--ipc", "--")


class Daemon:
    """A server that runs until it is ended; it dies with this process.

    :param log: where it writes; its end stands in errors.
    """

    def __init__(self, argv: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        setpriv = find_tool("setpriv", "util-linux")
        program = argv[0] if "/" in argv[0] else find_tool(argv[0])
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [setpriv, "--pdeathsig", "KILL", "--", program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=folder,
                env=child_environment(environment),
                start_new_session=True,
            )

    @property
    def status(self) -> Optional[int]:
        """Return its exit status, None while it runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def tail(self) -> str:
        """Return the end of its log."""
        with self.log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            return stream.read().decode("utf-8", "replace").strip()[-3000:]

    def wait_for(self, ready: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until *ready* says so.

        :raises PipelineError: with the end of the log, if the server ends before, or it takes too long.
        """
        end = time.monotonic() + timeout
        pause = 0.02
        while not ready():
            if self.status is not None:
                raise PipelineError(f"{what} ended with status {self.status}: {self.tail()}", "", {"log": self.tail()})
            if time.monotonic() > end:
                raise PipelineError(
                    f"{what} was not ready within {timeout:g} seconds: {self.tail()}", "", {"log": self.tail()}
                )
            time.sleep(pause)
            pause = min(0.25, pause * 1.5)

    def end(self, number: int = signal.SIGKILL, timeout: float = 60.0) -> None:
        """Send a signal and wait; what does not end is killed."""
        if self.status is None:
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        if self.status is None:
            self._process.kill()
            self._process.wait()


def memory_for(content_bytes: int) -> int:
    """Return how much memory a throwaway's buffers get: what its content needs, at most a quarter of the host's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(128 * 1024 * 1024, min(total // 4, int(content_bytes * 1.2)))
