# SPDX-FileCopyrightText: The rspon.dbcontinuity contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine underneath: commands, mounts, locks, cgroups. Small helpers without any notion of a fleet."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
# For what the kernel does by itself, and at once: more than a machine under load takes.
PATIENCE_SECONDS = 120.0
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")


class HostsError(Exception):
    """Something about the test hosts went wrong; the message is for the person at the keyboard."""


def run(argv: Sequence[str | Path], *, check: bool = True, stdin: str | None = None) -> str:
    """Run a command and return its standard output; a failure carries command, status and last words."""
    words = [str(word) for word in argv]
    result = subprocess.run(
        words,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and result.returncode != 0:
        said = (result.stderr.strip() or result.stdout.strip())[-3000:]
        raise HostsError(f"{' '.join(words)}: exit {result.returncode}\n{said}")
    return result.stdout


def need_root_and(tools: Sequence[str]) -> None:
    """Refuse early, with everything that is missing in one message."""
    if os.geteuid() != 0:
        raise HostsError("test hosts are made of mounts and network interfaces: run this as root")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        packages = "mmdebstrap systemd-container openssh-client"
        raise HostsError(f"not installed: {', '.join(missing)} (apt install {packages})")


def allow_watches(wanted: int, limit: Path = INOTIFY_LIMIT) -> None:
    """Let root have so many inotify instances: a host takes about ten, and Debian's 128 end with the fourth fleet.

    Beyond the limit services fail with "Too many open files", on hosts that have nothing to do with who took them.
    """
    with contextlib.suppress(OSError, ValueError):
        if int(limit.read_text(encoding="ascii")) < wanted:
            limit.write_text(f"{wanted}\n", encoding="ascii")


def boot_id() -> str:
    """Return the id of the machine's current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def write_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(mode)
    temporary.replace(path)


@contextlib.contextmanager
def locked(path: Path, deadline: float = 600.0) -> Iterator[None]:
    """Hold a kernel lock; it dies with its holder, so nothing stale is ever left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="ascii") as handle:
        end = time.monotonic() + deadline
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise HostsError(f"{path} is held by another run, waited {deadline:.0f} s") from None
                time.sleep(0.1)
        yield


def is_locked(path: Path) -> bool:
    """Tell whether somebody alive holds this lock."""
    try:
        with path.open("a", encoding="ascii") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def mounts() -> list[tuple[str, str]]:
    """Return (source, mount point) of all mounts, in the order they were made."""
    result = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, right = line.split(" - ", 1)
        point = left.split(" ")[4].encode("ascii", "backslashreplace").decode("unicode_escape")
        result.append((right.split(" ")[1], point))
    return result


def unmount_below(folder: Path) -> None:
    """Unmount everything at or below a folder, innermost first."""
    top = str(folder.resolve())
    for _, point in reversed(mounts()):
        if point == top or point.startswith(f"{top}/"):
            run(["umount", "--lazy", point])


def remove_tree(folder: Path) -> None:
    """Delete a folder, never through a mount."""
    if not folder.exists():
        return
    unmount_below(folder)
    shutil.rmtree(folder)


def mount_overlay(source: str, lower: Sequence[Path], upper: Path, work: Path, target: Path) -> None:
    """Mount layers, the topmost first, under a writable one."""
    for folder in (upper, work, target):
        folder.mkdir(parents=True, exist_ok=True)
    parts = [str(path) for path in (*lower, upper, work)]
    if any(character in part for part in parts for character in ":,\\"):
        raise HostsError(f"an overlay cannot be mounted from a path with one of : , \\ in it: {parts}")
    options = f"lowerdir={':'.join(parts[:-2])},upperdir={upper},workdir={work}"
    run(["mount", "-t", "overlay", source, "-o", options, target])


def _hierarchies() -> list[Path]:
    """Return the cgroup trees systemd-nspawn moves its processes in (one on cgroup v2, two on a hybrid)."""
    if (CGROUP / "cgroup.controllers").exists():
        return [CGROUP]
    return [tree for tree in (CGROUP / "systemd", CGROUP / "unified") if (tree / "cgroup.procs").exists()]


def cgroup_names(prefix: str) -> list[str]:
    """Return the names of top-level cgroups with this prefix."""
    return sorted({path.name for tree in _hierarchies() for path in tree.glob(f"{prefix}*") if path.is_dir()})


def cgroup_pids(name: str) -> list[int]:
    """Return the processes of a cgroup and of all below it."""
    pids: set[int] = set()
    for tree in _hierarchies():
        for file in (tree / name).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                pids.update(int(line) for line in file.read_text(encoding="ascii").split())
    return sorted(pids - {0})


def in_cgroup(name: str, argv: Sequence[str | Path]) -> list[str]:
    """Return a command that first moves itself into a cgroup of its own.

    Without one, all containers started from here share /payload: each systemd inside then takes the others'
    services for its own, and stopping one host's database server kills its namesake on the next host.
    """
    trees = [tree / name for tree in _hierarchies()]
    if not trees:
        raise HostsError(f"no cgroup tree with systemd's layout is mounted at {CGROUP}")
    for tree in trees:
        tree.mkdir(exist_ok=True)
    script = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'
    return ["/bin/sh", "-c", script, "in-cgroup", *map(str, trees), "--", *map(str, argv)]


def cgroup_kill(name: str, deadline: float = PATIENCE_SECONDS) -> None:
    """Kill all of a cgroup and remove it (killing systemd-nspawn alone leaves its container running)."""
    end = time.monotonic() + deadline
    while pids := cgroup_pids(name):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        if time.monotonic() > end:
            raise HostsError(f"processes of {name} do not die: {pids}")
        time.sleep(0.05)
    for tree in _hierarchies():
        top = tree / name
        folders = [path for path in top.rglob("*") if path.is_dir()] if top.is_dir() else []
        for folder in [*sorted(folders, reverse=True), top]:
            with contextlib.suppress(FileNotFoundError):
                _rmdir_busy(folder, end)


def _rmdir_busy(folder: Path, end: float) -> None:
    """Remove a cgroup; for a moment after its last process died, or until somebody has waited for it, it is busy."""
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > end:
                raise HostsError(f"{folder} stays busy") from None
            time.sleep(0.02)
        else:
            return


def leader(name: str) -> int | None:
    """Return the outer process id of a container's process 1."""
    for pid in cgroup_pids(name):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
                if line.startswith("NSpid:"):
                    ids = line.split()[1:]
                    if len(ids) > 1 and ids[-1] == "1":
                        return pid
    return None
