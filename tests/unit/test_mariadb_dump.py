# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher of dumps, on dumps cut into blocks of any length."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils.engines.mariadb import dump_watch

DUMP = (
    b"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n\n"
    b"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `rs`;\n"
    b"CREATE SEQUENCE `s` start with 1;\n"
    b"CREATE TABLE `pasien` (\n  `id` int(11)\n);\n"
    b"INSERT INTO `pasien` VALUES\n(1,'" + b"x" * 9000 + b"CREATE TABLE `'),\n(2,'\\nCREATE TABLE `no` (');\n"
    b"DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ /*!50003 TRIGGER t BEFORE INSERT ON pasien FOR EACH ROW\n"
    b"BEGIN\nCREATE TABLE `in a body` (i int);\n/*!50003 CREATE*/ x;\nEND */;;\nDELIMITER ;\n"
    b"DELIMITER ;;\nCREATE DEFINER=`a`@`%` PROCEDURE `p`()\nBEGIN\nCREATE DEFINER=`a`@`%` PROCEDURE `q`() x;\nEND ;;\nDELIMITER ;\n"
    b"DELIMITER ;;\n/*!50003 SET x */ ;;\n/*!50106 CREATE*/ /*!50117 DEFINER=`a`@`b`*/ /*!50106 EVENT `e` ON SCHEDULE */ ;;\n"
    b"DELIMITER ;\n/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`a`@`b` SQL SECURITY DEFINER */\n"
    b"/*!50001 VIEW `v` AS select 1 */;\n"
)
END = b"\n-- Dump completed on 2026-09-19 12:00:00\n"
COUNTS = {"databases": 1, "sequences": 1, "tables": 1, "triggers": 1, "routines": 1, "events": 1, "views": 1}


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 511, 4096, 4097, 10**6])
def test_the_same_is_seen_however_the_stream_is_cut(length: int) -> None:
    watcher = dump_watch.Watcher()
    whole = memoryview(DUMP + END)
    for start in range(0, len(whole), length):
        watcher.feed(whole[start : start + length])
    assert watcher.counts == COUNTS
    assert watcher.complete
    assert watcher.refused == []


@pytest.mark.parametrize(
    "end",
    [b"", b"\n", END[:-1], b"\n-- Dump completed\nmore\n", b"(1,'-- Dump completed on 2026-09-19 12:00:00\\n');\n"],
)
def test_a_dump_without_its_last_line_is_not_whole(end: bytes) -> None:
    watcher = dump_watch.Watcher()
    watcher.feed(memoryview(DUMP + end))
    assert not watcher.complete


def test_what_the_dump_left_out_is_kept() -> None:
    watcher = dump_watch.Watcher()
    watcher.feed(memoryview(b"\n\n-- insufficient privileges to SHOW CREATE PROCEDURE `p`\n" + END))
    assert watcher.refused == ["-- insufficient privileges to SHOW CREATE PROCEDURE `p`"]


@pytest.mark.parametrize(("data", "status"), [(DUMP + END, 0), (DUMP, 1), (b"", 1)])
def test_as_a_program_it_passes_everything_on(tmp_path: Path, data: bytes, status: int) -> None:
    seen = tmp_path / "seen"
    done = subprocess.run(
        [sys.executable, "-I", dump_watch.__file__, str(seen)], input=data, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (status, data)
    assert json.loads(seen.read_text())["complete"] is (status == 0)
