# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engines there are. Static imports: only what they show is shipped to the managed host."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..instance import Instance, choice
from .base import Engine
from .files.engine import FilesEngine
from .mariadb.engine import MariaDBEngine
from .postgresql.engine import PostgreSQLEngine

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (MariaDBEngine, PostgreSQLEngine, FilesEngine)}


def engine_for(instance: Instance) -> Engine:
    """Return the engine of an instance.

    :raises InputError: if the engine, or its method, is not known.
    """
    engine = ENGINES[choice(instance.engine, tuple(ENGINES), f"engine of the instance {instance.name}")]
    if instance.method and instance.method not in engine.methods:
        raise InputError(
            f"The method {instance.method!r} of the instance {instance.name} is not known to the engine {engine.name}.",
            f"Use one of: {', '.join(engine.methods)}.",
        )
    return engine(instance)


def engines_for(instances: Sequence[Instance]) -> dict[str, Engine]:
    """Return the engines of several instances by name.

    :raises InputError: if an engine or method is not known, or two instances have one name.
    """
    engines: dict[str, Engine] = {}
    for instance in instances:
        if instance.name in engines:
            raise InputError(f"The instance {instance.name} is named twice.", "Name each instance once.")
        engines[instance.name] = engine_for(instance)
    return engines


def method_of(instance: Instance) -> str:
    """Return the instance's method, the engine's default where none is set."""
    return instance.method or ENGINES[instance.engine].methods[0]
