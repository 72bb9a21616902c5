# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway certificate authority and one server certificate for 127.0.0.1, made with openssl."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from demo.process import Owner, find_program, run

DAYS = "30"


@dataclass(frozen=True)
class Certificates:
    """Where a server's certificates lie: the CA is for clients, the key is readable by the server alone."""

    ca: Path
    certificate: Path
    key: Path


def certificates(folder: Path, who: Owner) -> Certificates:
    """Make them in this folder, once. The CA's key is thrown away: nothing else can be signed with it."""
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    if made.certificate.exists():
        return made
    openssl = find_program("openssl")
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    authority_key, request, extensions = folder / "ca.key", folder / "server.csr", folder / "server.ext"
    extensions.write_text(
        "basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n"
    )
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run(
        [
            openssl,
            "req",
            "-x509",
            *curve,
            "-keyout",
            str(authority_key),
            "-out",
            str(made.ca),
            "-days",
            DAYS,
            "-subj",
            "/O=dbcontinuity throwaway/CN=demo CA",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign",
        ]
    )
    run(
        [
            openssl,
            "req",
            *curve,
            "-keyout",
            str(made.key),
            "-out",
            str(request),
            "-subj",
            "/O=dbcontinuity throwaway/CN=localhost",
        ]
    )
    run(
        [
            openssl,
            "x509",
            "-req",
            "-in",
            str(request),
            "-CA",
            str(made.ca),
            "-CAkey",
            str(authority_key),
            "-CAcreateserial",
            "-days",
            DAYS,
            "-extfile",
            str(extensions),
            "-out",
            str(made.certificate),
        ]
    )
    for leftover in (authority_key, request, extensions, folder / "ca.srl"):
        leftover.unlink(missing_ok=True)
    made.key.chmod(0o600)
    who.give(made.key)
    for public in (made.ca, made.certificate):
        public.chmod(0o644)
    return made
