# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partial restore of folders and files: received beside, then renamed into place, or into a name beside the original.

The difference is of names, kinds, sizes and times: the content of files is not read on production.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...agent_answer import agent_stage
from ...errors import InputError
from ...process import write_through
from ...scope import FILE, FOLDER, Scope, unknown
from ..partial import BESIDE, LOAD, NOTHING, RECREATE, SWAP, Difference, Item, Journal, PartialRestore
from .listing import name_bytes, read_listing


class FilesPartial(PartialRestore):
    """One partial restore of folders."""

    def plan(self) -> list[Item]:
        scopes = list(self.order.scopes)
        for scope in scopes:
            self._there(scope)
        listing = self._production_listing()
        return [self._item(scope, listing) for scope in scopes]

    def _there(self, scope: Scope) -> Path:
        """Return where the copy has it.

        :raises InputError: if it has not, or it is of another kind.
        """
        path = scope.names[0]
        place = Path(f"{self.server.root}{path}")
        for part in list(place.parents)[: len(Path(path).parts) - 1]:
            if part.is_symlink():
                raise InputError(f"{scope} lies behind a symbolic link.", "Name the folder itself.")
        if not os.path.lexists(place):
            folder = place.parent
            known = sorted(os.listdir(folder)) if folder.is_dir() else []
            shown = [os.path.join(os.path.dirname(path), name) for name in known]
            raise unknown("folder or file", path, shown, scope)
        is_folder = place.is_dir() and not place.is_symlink()
        if is_folder != (scope.kind == FOLDER):
            other = FOLDER if is_folder else FILE
            raise InputError(f"{path} is no {scope.kind} in the copy.", f"Write {other}:{path}.")
        return place

    def _production_listing(self) -> Path:
        path = self.workdir / "production.jsonl"
        path.unlink(missing_ok=True)
        write_through([agent_stage(self.instance.agent, "list", self.instance.name)], path, mode=0o600)
        return path

    def _item(self, scope: Scope, listing: Path) -> Item:
        path = scope.names[0]
        item = Item(str(scope), LOAD if self.order.mode == BESIDE else SWAP)
        item.difference = self._difference(os.fsencode(path), listing, item)
        beside = f"{path}.dbc-restore-{self.order.run}"
        if self.order.mode == BESIDE:
            item.place = beside
        elif not item.in_production:
            item.action = RECREATE
        elif item.difference.none:
            item.action = NOTHING
        else:
            item.kept = f"{path}.dbcontinuity-{self.order.run}.old"
        return item

    def _difference(self, path: bytes, listing: Path, item: Item) -> Difference:
        found = Difference("names, kinds, sizes and times")
        root = os.fsencode(self.server.root)
        seen: set[bytes] = set()
        item.in_production = False
        for entry in read_listing(listing):
            name = name_bytes(entry)
            if name != path and not name.startswith(path + b"/"):
                continue
            item.in_production = True
            seen.add(_short(name))
            try:
                there = os.lstat(root + name)
            except FileNotFoundError:
                found.only_production += 1
                self._example(found, "only_in_production", name, int(entry["size"]))
                continue
            if _changed(entry, there):
                found.changed += 1
                self._example(found, "changed", name, int(entry["size"]), there.st_size)
        for name, state in _walk(root, path):
            if stat.S_ISREG(state.st_mode):
                item.rows += 1
                item.bytes += state.st_size
            if _short(name) not in seen:
                found.only_copy += 1
                self._example(found, "only_in_copy", name, state.st_size)
        return found

    def _example(self, found: Difference, kind: str, name: bytes, size: int, other: int | None = None) -> None:
        kept = found.keys.setdefault(kind, [])
        if len(kept) < self.order.examples:
            shown = name.decode("utf-8", "backslashreplace")
            kept.append(f"{shown} ({size} bytes)" if other is None else f"{shown} ({size} bytes, in the copy {other})")

    def carry_out(self, items: Sequence[Item], journal: Journal, on_progress: Callable[[int], None]) -> list[Item]:
        acting = [(scope, item) for scope, item in zip(self.order.scopes, items) if item.action != NOTHING]
        if not acting:
            return list(items)
        run = self.order.run
        folders = {f"p{number}": item.place or scope.names[0] for number, (scope, item) in enumerate(acting)}
        places = dict(zip(folders, (self._there(scope) for scope, _item in acting)))
        single = [part for part, place in places.items() if place.is_symlink() or not place.is_dir()]
        spec = {"parts": list(folders), "folders": folders, "single": single}
        journal.note(engine="files", step="exchanging", run=run, folders=folders)
        try:
            self.channel.begin(self.instance, run, spec)
            sent = 0
            for part, place in places.items():
                sent += self._send(run, part, place, part in single, partial(_add, on_progress, sent))
            self.channel.swap(self.instance, run)
        except BaseException:
            self.undo(journal)
            raise
        self.channel.clean(self.instance, run)
        journal.done()
        return list(items)

    def _send(self, run: str, part: str, place: Path, single: bool, on_progress: Callable[[int], None]) -> int:
        if not single:
            return self.channel.receive(self.instance, run, part, place, on_progress)
        # What is no folder travels as the only entry of one; a link to the same file takes no room.
        with tempfile.TemporaryDirectory(dir=self.server.folder) as folder:
            os.link(place, Path(folder) / place.name, follow_symlinks=False)
            return self.channel.receive(self.instance, run, part, Path(folder), on_progress)

    def undo(self, journal: Journal) -> Mapping[str, Any]:
        if not journal.values:
            return {}
        run = str(journal.values["run"])
        answer = self.channel.look(self.instance)
        if (answer.get("journal") or {}).get("run") == run:
            answer = self.channel.back(self.instance, run)
            self.channel.clean(self.instance, run)
        journal.done()
        return {"run": run, "changed": bool(answer.get("changed"))}


def _add(on_progress: Callable[[int], None], before: int, done: int) -> None:
    on_progress(before + done)


def _short(name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=16).digest()


def _changed(entry: Mapping[str, Any], there: os.stat_result) -> bool:
    kinds = {"file": stat.S_ISREG, "folder": stat.S_ISDIR, "link": stat.S_ISLNK}
    kind = str(entry["kind"])
    if kind in kinds and not kinds[kind](there.st_mode):
        return True
    if kind == "folder":  # its time moves with whatever comes and goes in it, which is listed itself
        return bool(entry["mode"] != stat.S_IMODE(there.st_mode))
    if kind == "file" and entry["size"] != there.st_size:
        return True
    return bool(entry["modified"] != there.st_mtime_ns)


def _walk(root: bytes, path: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    state = os.lstat(root + path)
    yield path, state
    if stat.S_ISDIR(state.st_mode):
        for name in sorted(os.listdir(root + path)):
            yield from _walk(root, path + b"/" + name)
