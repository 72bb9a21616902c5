# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers around an artefact's content: zstd, then age where recipients are set, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from .errors import InputError, PrerequisiteError
from .process import Finished, Stage, find_tool, run

_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}|ssh-(ed25519|rsa) [A-Za-z0-9+/=]+( .*)?")
_SUFFIXES = {"zstd": ".zst", "age": ".age"}


def is_private_key(text: str) -> bool:
    """Return whether *text* looks like the private half of a key, which must not be shown."""
    return re.search(r"(secret|private)[- ]key", text, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Protection:
    """Who can read what is stored.

    :param recipients: public age (or SSH) keys; none means artefacts are stored in the clear.
    :param identity_file: the operations key's private half on this host, needed to read back.
    """

    recipients: tuple[str, ...] = ()
    identity_file: Optional[Path] = None

    def __post_init__(self) -> None:
        for recipient in self.recipients:
            if is_private_key(recipient):
                raise InputError(
                    "A private key stands among the recipients; it is not shown here.",
                    "Put its public half there: age-keygen -y KEYFILE prints it. Whoever could read this file can read"
                    " the backups: make a new key.",
                )
            if not _RECIPIENT.fullmatch(recipient):
                raise InputError(
                    f"The recipient {recipient!r} is no age public key.",
                    "It begins with age1; age-keygen -y KEYFILE prints it.",
                )


def layers(protection: Protection) -> tuple[str, ...]:
    """Return the names of the layers an artefact gets, from the inside out."""
    return ("zstd", "age") if protection.recipients else ("zstd",)


def suffix(names: Sequence[str]) -> str:
    """Return the file name suffix for layers."""
    return "".join(_SUFFIXES[name] for name in names)


def compress_stage(level: int, threads: int, *, checksum: bool = True) -> Stage:
    """Return the stage that compresses its input.

    :param checksum: let zstd add its own of the content; a twentieth of the processor's time.
    """
    words = (find_tool("zstd"), "-q", f"-T{threads}", f"-{level}", *(() if checksum else ("--no-check",)), "-c", "-")
    return Stage(words, label="zstd")


def encrypt_stage(protection: Protection) -> Stage:
    """Return the stage that encrypts its input to all recipients."""
    words = [find_tool("age"), "--encrypt"]
    for recipient in protection.recipients:
        words += ["-r", recipient]
    return Stage((*words, "-"), label="age")


def encode_stages(
    protection: Protection, level: int, threads: int, *, compressed: bool = False, checksummed: bool = False
) -> list[Stage]:
    """Return the stages from content to artefact.

    :param compressed: the content arrives compressed already.
    :param checksummed: the content has checksums of its own.
    """
    stages = [] if compressed else [compress_stage(level, threads, checksum=not checksummed)]
    if protection.recipients:
        stages.append(encrypt_stage(protection))
    return stages


def decode_stages(names: Sequence[str], protection: Protection, artefact: Path) -> list[Stage]:
    """Return the stages that read *artefact* and give its content.

    :raises PrerequisiteError: if it is encrypted and no private key is at hand.
    """
    stages: list[Stage] = []
    source: tuple[str, ...] = (str(artefact),)
    for name in reversed(list(names)):
        if name == "age":
            identity = protection.identity_file
            if identity is None or not identity.is_file():
                raise PrerequisiteError(
                    f"{artefact.name} is encrypted and the private key {identity or '(none given)'} is not on this host.",
                    "Give identity_file; the escrow key's holder can bring the other one.",
                )
            stages.append(Stage((find_tool("age"), "--decrypt", "-i", str(identity), *source), label="age"))
        elif name == "zstd":
            stages.append(Stage((find_tool("zstd"), "-q", "-d", "-c", *source), label="zstd"))
        else:
            raise InputError(f"{artefact.name} has the unknown layer {name!r}.", "It was made by a newer version.")
        source = ()
    return stages


def _said(finished: Finished) -> str:
    """Return what age said of the matter."""
    lines = [line for line in finished.stderr.splitlines() if "report unexpected or unhelpful errors" not in line]
    return "\n".join(lines).strip()


def check_protection(protection: Protection) -> None:
    """Encrypt a byte to the recipients and, where the private key is here, read it back: before a backup needs it.

    :raises PrerequisiteError: if a recipient is unusable or the private key does not open what is written now.
    """
    if not protection.recipients:
        return
    sealed = run(encrypt_stage(protection), stdin=b"dbcontinuity", check=False)
    if not sealed.ok:
        raise PrerequisiteError(f"age refuses the recipients: {_said(sealed)}", "Correct recipients.")
    if protection.identity_file is not None:
        opened = run(
            Stage((find_tool("age"), "--decrypt", "-i", str(protection.identity_file), "-"), label="age"),
            stdin=sealed.stdout,
            check=False,
        )
        if opened.stdout != b"dbcontinuity":
            raise PrerequisiteError(
                f"The private key {protection.identity_file} does not open what is encrypted to the recipients:"
                f" {_said(opened)}",
                "Add the operations key's public half to recipients: age-keygen -y KEYFILE prints it.",
            )
