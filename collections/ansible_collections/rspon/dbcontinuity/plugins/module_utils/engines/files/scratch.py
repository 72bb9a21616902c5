# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of folders below a scratch folder: the archive, then each archive of changes with its deletions.

At the end the copy is held against the newest complete listing, entry by entry. Nothing is deleted or written through
a symbolic link: what the folders link to lies on this host, outside the copy.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from ...clock import parse_moment
from ...errors import InputError
from ...instance import Instance
from ...lineage import LogRecord
from ...process import Pipeline, Stage, failure, find_tool, run
from ...throwaway import Sandbox
from ..scratch import FAILED, NOT_CHECKABLE, PASSED, Check, Content, ScratchServer, Source
from .chain import OURS
from .listing import Excused, name_bytes, read_listing

_KINDS = {"file": "files", "folder": "folders", "link": "links", "special": "special"}
_SHOWN = 20


class FilesScratch(ScratchServer):
    """One copy of folders; there is no server, and only the present user can give files their owners."""

    def __init__(self, instance: Instance, source: Source, folder: Path, sandbox: Sandbox) -> None:
        super().__init__(instance, source, folder, sandbox)
        self.root = folder / "root"
        self._listing = folder / "listing.jsonl"
        self._excused = Excused()

    @staticmethod
    def check_tools(manifest: Mapping[str, Any]) -> Mapping[str, str]:
        shown = run(Stage((find_tool("tar"), "--version"))).stdout.decode("utf-8", "replace")
        return {"tar": shown.splitlines()[0].split()[-1]}

    @staticmethod
    def logs_of(manifest: Mapping[str, Any], records: Sequence[LogRecord]) -> Sequence[LogRecord]:
        # A set made while a lineage goes on lies between two cycles; the changes of the later one hold all since the
        # earlier one, so they bring the set to the later one's state. That goes for the lineage's first changes, too: they
        # are measured against the set that opened it, which need not be this one.
        began = parse_moment(str(manifest["started_at"]))
        return [record for record in records if parse_moment(str(record.end["observed_at"])) >= began]

    def unpack(self) -> None:
        self.root.mkdir(mode=0o700)
        self._excused = Excused.of(self.source.manifest.get("engine_details", {}))
        for artefact in self.source.artefacts:
            if artefact.content == "tar":
                self._extract(self.source.artefact_stages(artefact), self.root)
            else:
                self.source.unpack(artefact, self.folder)

    def _extract(self, stages: Sequence[Stage], where: Path, *words: str) -> None:
        owners = ("--same-owner", "--numeric-owner") if os.geteuid() == 0 else ("--no-same-owner",)
        tar = Stage(
            (find_tool("tar"), "--extract", "--acls", "--xattrs", *owners, f"--directory={where}", *words), label="tar"
        )
        with Pipeline([*stages, tar]) as pipeline:
            pipeline.output.read()
            finished = pipeline.wait(timeout=24 * 3600)
        if not all(stage.ok for stage in finished):
            raise failure(finished)

    def verify_base(self) -> Sequence[Check]:
        problems, _counts = self._compare(whole=False)
        return [_listing_check("the set against its listing", problems)]

    def start(self) -> None:
        """There is nothing to start."""

    def replay(self, on_progress: Callable[[int], None], timeout: float) -> Mapping[str, Any]:
        done = 0
        changed = deleted = 0
        for record in self.source.logs:
            ours = self.folder / "changes"
            ours.mkdir(mode=0o700)
            self._extract(self.source.log_stages(record), ours, f"{OURS}/listing.jsonl", f"{OURS}/deleted")
            for name in (ours / OURS / "deleted").read_bytes().split(b"\0")[:-1]:
                remove_below(self.root, name)
                deleted += 1
            self._extract(self.source.log_stages(record), self.root, f"--exclude={OURS}")
            os.replace(ours / OURS / "listing.jsonl", self._listing)
            shutil.rmtree(ours)
            self._excused = Excused.of(record.end)
            changed += int(record.end.get("changed") or 0)
            done += int(record.values.get("plain_size") or 0)
            on_progress(done)
        surplus = self._remove_surplus() if self.source.logs else 0
        self._folder_times()
        logs = self.source.logs
        reached = dict(logs[-1].end) if logs else dict(self.source.manifest["position"]["end"])
        for key in Excused().values():
            reached.pop(key, None)
        return {
            "logs": len(logs),
            "bytes": done,
            "changed": changed,
            "deleted": deleted + surplus,
            "end": reached,
        }

    def _remove_surplus(self) -> int:
        """Remove what came and went between two cycles while the set was made: no listing has it, the set may."""
        known = {name_bytes(entry) for entry in read_listing(self._listing)}
        parents: set[bytes] = set()
        for name in known:
            while name not in (b"", b"/"):
                name = os.path.dirname(name)
                parents.add(name)
        removed = 0
        root = os.fsencode(self.root)
        for base, folders, names in os.walk(root):
            here = base[len(root) :]
            for each in (*folders, *names):
                path = here + b"/" + each
                if path not in known and path not in parents:
                    remove_below(self.root, path)
                    removed += 1
                    if each in folders:
                        folders.remove(each)
        return removed

    def _folder_times(self) -> None:
        """Give folders their times back: unpacking a file into one moved them."""
        for entry in read_listing(self._listing):
            if entry["kind"] == "folder":
                path = os.fsencode(self.root) + name_bytes(entry)
                if stat.S_ISDIR(os.lstat(path).st_mode):
                    os.utime(path, ns=(entry["modified"], entry["modified"]), follow_symlinks=False)

    # -- looking at it --

    def _compare(self, *, whole: bool = True) -> tuple[list[str], dict[str, int]]:
        named = self._excused.finder()
        problems: list[str] = []
        counts = dict.fromkeys(_KINDS.values(), 0)
        for entry in read_listing(self._listing):
            shown = str(entry["path"]).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            try:
                found = os.lstat(os.fsencode(self.root) + name_bytes(entry))
            except OSError:
                if not named(entry):
                    problems.append(f"{shown} is missing")
                continue
            counts[_KINDS[entry["kind"]]] += 1
            wrong = _differs(entry, found) if whole else ""
            if wrong and not named(entry):
                problems.append(f"{shown} has another {wrong} than listed")
        return self._excused.judge(problems), counts

    def content(self) -> Content:
        _problems, counts = self._compare()
        rows: dict[str, int] = {}
        roots: list[str] = []
        for entry in read_listing(self._listing):
            path = str(entry["path"])
            if not any(path.startswith(f"{root.rstrip('/')}/") for root in roots):
                roots.append(path)
                rows[path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")] = 0
            if entry["kind"] == "file":
                root = next(each for each in roots if path == each or path.startswith(f"{each.rstrip('/')}/"))
                rows[root.encode("utf-8", "surrogateescape").decode("utf-8", "replace")] += 1
        return Content(counts, rows)

    def checks(self) -> Sequence[Check]:
        problems, _counts = self._compare()
        return [
            _listing_check("every entry against the newest listing", problems),
            Check("content of files", NOT_CHECKABLE, "a listing holds no checksums; the archives' own were checked"),
        ]

    def ask(self, sql: str, database: str) -> str:
        raise InputError(
            f"{self.instance.name} is a set of folders: nothing there answers SQL.",
            "Take its checks out of dbc_instances.",
        )

    def settle(self) -> Path:
        run(Stage((find_tool("sync", "coreutils"), "--file-system", str(self.root))), timeout=24 * 3600)
        return self.root

    def end(self) -> None:
        """There is nothing to end."""


def _listing_check(name: str, problems: Sequence[str]) -> Check:
    more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return Check(name, FAILED if problems else PASSED, "; ".join(problems[:_SHOWN]) + more)


def _differs(entry: Mapping[str, Any], found: os.stat_result) -> str:
    """Return what of an entry is not as listed; a file written to between listing and reading is newer, and no fault."""
    kinds = {"file": stat.S_ISREG, "folder": stat.S_ISDIR, "link": stat.S_ISLNK}
    kind = str(entry["kind"])
    if kind in kinds and not kinds[kind](found.st_mode):
        return "kind"
    newer = found.st_mtime_ns > entry["modified"]
    if kind == "file" and found.st_size != entry["size"] and not newer:
        return "size"
    if kind in ("file", "folder") and found.st_mtime_ns != entry["modified"] and not newer:
        return "time"
    if os.geteuid() == 0 and (found.st_uid, found.st_gid) != (entry["uid"], entry["gid"]):
        return "owner"
    return ""


@contextmanager
def _folder(root: Path, parts: Sequence[bytes]) -> Iterator[Optional[int]]:
    """Give the descriptor of a folder below *root*, None if a part is missing or no folder; no link is followed."""
    descriptor: Optional[int] = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for part in parts:
            before = descriptor
            try:
                descriptor = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=before)
            except OSError:
                descriptor = None
                break
            finally:
                if before is not None:
                    os.close(before)
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove_below(root: Path, name: bytes) -> None:
    """Remove a path below *root*, with all in it; nothing happens where it is gone, or lies behind a link."""
    parts = [part for part in name.split(b"/") if part]
    if not parts or b".." in parts:
        raise InputError(f"The path {name!r} cannot be removed.", "The archive was not made by this project.")
    with _folder(root, parts[:-1]) as parent:
        if parent is None:
            return
        try:
            found = os.lstat(parts[-1], dir_fd=parent)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            path = b"/".join([os.fsencode(root), *parts])
            shutil.rmtree(path)
        else:
            os.unlink(parts[-1], dir_fd=parent)
