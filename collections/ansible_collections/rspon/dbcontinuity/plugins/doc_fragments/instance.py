# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation shared by modules."""

from __future__ import annotations

_SUBOPTIONS = r"""
      name:
        description:
          - The instance's name. It names folders, services and lock files.
          - Lower-case letters, digits, dot, dash and underscore, at most 63.
        type: str
        required: true
      engine:
        description: V(mariadb), V(postgresql) or V(files).
        type: str
        required: true
      method:
        description:
          - How a full backup is made. V(physical) or V(logical) for databases, V(archive) for files; the first is the default.
          - A V(logical) backup has no recovery to a point in time.
        type: str
      credentials:
        description:
          - The client's own configuration file on this host, mode 0600, owned by the user this runs as.
          - A MariaDB option file with a C([client]) group, or a PostgreSQL service file with a service named like the instance.
          - Default C(/etc/dbcontinuity/credentials/NAME). Not used for V(files).
        type: path
      agent:
        description: How tools are run on the production host.
        type: dict
        suboptions:
          transport:
            description: V(ssh) through a forced command, or V(local) where this host is production itself.
            type: str
            choices: [local, ssh]
            default: local
          program:
            description: The agent's path, for V(local).
            type: path
            default: /usr/local/libexec/dbcontinuity-agent
          config_dir:
            description: The agent's folder of allowed instances, for V(local).
            type: path
            default: /etc/dbcontinuity/agent
          host:
            description: Name or address of the production host, for V(ssh).
            type: str
          user:
            description: Login on the production host.
            type: str
            default: dbcontinuity
          port:
            description: Port of its SSH server.
            type: int
            default: 22
          identity_file:
            description: The private key that may run the agent there, and nothing else.
            type: path
            default: /etc/dbcontinuity/ssh/agent_key
          known_hosts_file:
            description: The pinned keys of the production hosts.
            type: path
            default: /etc/dbcontinuity/ssh/known_hosts
      compress_on:
        description: Where zstd runs, as processor time or the link is scarcer.
        type: str
        choices: [backup, production]
        default: backup
      compression_level:
        description: Level of zstd, 1 to 19.
        type: int
        default: 1
      parallel:
        description: Threads of the engine's tool and of zstd.
        type: int
        default: 2
"""


class ModuleDocFragment:
    """One instance (the default), or several (``.list``).

    Annotated, because ansible-test's yamllint takes a plain assignment for one literal and fails on a joined one.
    """

    DOCUMENTATION: str = (
        r"""
options:
  instance:
    description: The instance.
    type: dict
    required: true
    suboptions:"""
        + _SUBOPTIONS
    )

    LIST: str = (
        r"""
options:
  instances:
    description: The instances, each as a dictionary.
    type: list
    elements: dict
    required: true
    suboptions:"""
        + _SUBOPTIONS
    )
