# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds which office: a file of root on the backup host, installed by the playbook site.

Gates read it here and not from a playbook's variables. A file, or a folder on the way to it, that others may change is
not believed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Optional

from ..errors import InputError, PrerequisiteError
from .fields import Person, parse_date

OFFICIALS_FILE = Path("/etc/dbcontinuity/officials.json")
HEAD_OF_SIRS = "kepala_instalasi_sirs"
_REMEDY = "Correct dbc_officials in the inventory and run the playbook site."


@dataclass(frozen=True)
class Appointment:
    """A person in an office, from one day to another, both included; a deputy (Plt/Plh) is *acting*."""

    person: Person
    start: Optional[date] = None
    end: Optional[date] = None
    acting: bool = False

    def on(self, day: date) -> bool:
        """Return whether it holds on a day."""
        return (self.start is None or self.start <= day) and (self.end is None or day <= self.end)

    def __str__(self) -> str:
        kind = ", Plt/Plh" if self.acting else ""
        return f"{self.person}{kind}, {self.start or '...'} to {self.end or '...'}"


class Officials:
    """The offices and who holds them.

    :ivar sha256: of the file, for the evidence.
    """

    def __init__(self, path: Path, values: Mapping[str, Any], sha256: str) -> None:
        self.path = path
        self.sha256 = sha256
        self._values = values

    def appointments(self, role: str) -> list[Appointment]:
        """Return who holds an office, at any time.

        :raises PrerequisiteError: if an entry of this office does not say it.
        """
        entries = self._values.get(role) or []
        if isinstance(entries, (str, Mapping)) or not isinstance(entries, Sequence):
            raise PrerequisiteError(f"{role} in {self.path} is no list of persons.", _REMEDY)
        return [self._appointment(role, number, entry) for number, entry in enumerate(entries, 1)]

    def holder(self, role: str, person: Person, day: date) -> Optional[Appointment]:
        """Return the appointment by which a person holds an office on a day; None if there is none.

        Number and name must both be those of the list.
        """
        for each in self.appointments(role):
            if each.person.id_number == person.id_number and each.person.is_named(person) and each.on(day):
                return each
        return None

    def _appointment(self, role: str, number: int, entry: object) -> Appointment:
        where = f"entry {number} of {role} in {self.path}"
        if not isinstance(entry, Mapping):
            raise PrerequisiteError(f"{where} is no person.", _REMEDY)
        name, id_number, acting = entry.get("name"), entry.get("id"), entry.get("acting", False)
        if not isinstance(name, str) or not isinstance(id_number, str) or not name.strip() or not id_number.strip():
            raise PrerequisiteError(
                f"{where} has no name and id that are texts.",
                f"Put the number in quotes: YAML reads 0012 as 10. {_REMEDY}",
            )
        if not isinstance(acting, bool):
            raise PrerequisiteError(f"{where}: acting is {acting!r}.", f"Write true or false. {_REMEDY}")
        try:
            days = [parse_date(str(entry[key]), key) if entry.get(key) else None for key in ("from", "until")]
        except InputError as error:
            raise PrerequisiteError(f"{where}: {error.message}", f"{error.remedy} {_REMEDY}") from None
        if acting and None in days:
            raise PrerequisiteError(f"{where} is a deputy (acting) without both from and until.", _REMEDY)
        return Appointment(Person(name.strip(), id_number.strip(), role), days[0], days[1], acting)


def read_officials(path: Path = OFFICIALS_FILE) -> Officials:
    """Return the officials from a file that only root (or whoever runs this) can change.

    :raises PrerequisiteError: if it is missing, others may change it, or it cannot be read.
    """
    try:
        real = path.resolve(strict=True)
        for each in (real, *real.parents):
            _check_owner(each)
        data = real.read_bytes()
        values = json.loads(data)
    except OSError as error:
        raise PrerequisiteError(
            f"The list of officials {path} cannot be read: {error.strerror}.",
            "Run the playbook site, which writes dbc_officials there.",
            {"path": str(path)},
        ) from None
    except (ValueError, RecursionError) as error:
        raise PrerequisiteError(f"The list of officials {path} does not hold: {error}.", _REMEDY) from None
    if not isinstance(values, dict):
        raise PrerequisiteError(f"The list of officials {path} holds no offices.", _REMEDY)
    return Officials(path, values, hashlib.sha256(data).hexdigest())


def _check_owner(path: Path) -> None:
    found = os.stat(path)
    # A folder like /tmp lets others add names, not take away root's.
    open_to_others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (
        stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    )
    if found.st_uid not in (0, os.geteuid()) or open_to_others:
        raise PrerequisiteError(
            f"{path} can be changed by others than root (owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}):"
            " what it says of the officials is not believed.",
            "Find out who changed it; then run the playbook site, which makes it root's.",
            {"path": str(path)},
        )
