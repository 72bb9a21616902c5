# Copyright (c) 2026 the rspon.dbcontinuity authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents say what is there: schemas, finding codes, links, commands, dependencies, the two READMEs."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rspon.dbcontinuity.plugins.module_utils import errors
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.clock import utc_now
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.codec import Protection
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.instance import Instance
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.ledger import Ledger
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.manifest import REQUIRED
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.full_backup import (
    FullBackupRequest,
    full_backup,
)
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.operations.log_cycle import LogCycleRequest, log_cycle
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.progress import Progress
from ansible_collections.rspon.dbcontinuity.plugins.module_utils.schedule import Window
from tests.documents import PROJECT, fenced, headings, validator
from tests.support import Place, make_place

DOCS = PROJECT / "docs"
COLLECTION = PROJECT / "collections/ansible_collections/rspon/dbcontinuity"
READMES = (PROJECT / "README.md", PROJECT / "README.id.md")
PAGES = (*READMES, *sorted(DOCS.glob("*.md")), COLLECTION / "README.md")


def properties(name: str) -> set[str]:
    """Return the keys that a published schema names."""
    return set(json.loads((DOCS / f"{name}.schema.json").read_text())["properties"])


# -- what is stored --


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A repository with a full backup of folders and a cycle of changes."""
    root = tmp_path_factory.mktemp("documents")
    scan = root / "scan"
    scan.mkdir()
    (scan / "a").write_text("a")
    made = make_place(root / "backup")
    one: Instance = made.files("berkas", scan)
    now = utc_now()
    window = Window("Asia/Jakarta", "12:00", "12:30")
    for protection in (made.protection, Protection()):
        full_backup(
            FullBackupRequest(one, made.repository, protection, slot=now, window=window, force=True), Progress()
        )
    (scan / "b").write_text("b")
    log_cycle(LogCycleRequest([one], made.repository, made.protection))
    return made


def stored(place: Place, pattern: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted(place.repository.glob(pattern))]
    assert found, pattern
    return found


def test_the_schema_of_the_manifest_holds_real_manifests(place: Place) -> None:
    holds = validator("manifest")
    for manifest in stored(place, "*/full/*/manifest.json"):
        holds.validate(manifest)
        assert set(manifest) == properties("manifest")
        for key in REQUIRED:
            without = {each: value for each, value in manifest.items() if each != key}
            assert not holds.is_valid(without), key


def test_the_schema_of_log_records_holds_real_ones(place: Place) -> None:
    holds = validator("log-record")
    for record in stored(place, "*/logs/*/0*.json"):
        holds.validate(record)
        assert set(record) == properties("log-record")


def test_the_schema_of_the_ledger_holds_real_records(place: Place) -> None:
    holds = validator("ledger-record")
    records = list(Ledger(place.repository / "ledger").records())
    assert {record["kind"] for record in records} == {"started", "finished", "event"}
    for record in records:
        holds.validate(record)
        assert set(record) <= properties("ledger-record")


def test_the_schema_of_the_ledger_holds_what_follows_damage(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.append("event", "test", "run")
    path = next(ledger.folder.glob("*.jsonl"))
    path.write_bytes(path.read_bytes() + b"damaged\n{half")
    for _ in range(2):
        ledger.append("event", "test", "run")
    records = list(ledger.records())
    assert {"previous_damaged", "damaged_lines", "torn_line_set_aside"} <= set(records[1])
    assert "damaged_lines" in records[2]
    for record in records:
        validator("ledger-record").validate(record)
        assert set(record) <= properties("ledger-record")


# -- findings --


CODE = re.compile(r"^[a-z]+(-[a-z]+)+$")
# A test restore composes these from what it was about: a file and what is wrong with it, the phase that failed; or they
# stand in an error's details.
COMPOSED = re.compile(r"^(no-set|out-of-range|ambiguous|(truncated|missing|damaged)-(artefact|log)|[a-z-]+-failed)$")


def codes_in_the_code() -> set[str]:
    """Return each code that a finding is made with: in its call, or as a key of an engine's remedies."""
    found: set[str] = set()
    for path in (COLLECTION / "plugins/module_utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
                if name in ("Finding", "finding", "_finding") and first is not None:
                    found.add(str(first))
                elif name == "add" and isinstance(first, str) and CODE.match(first):
                    found.add(first)
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and target.id == "code" and isinstance(value, ast.Constant):
                found.add(str(value.value))
            if isinstance(target, ast.Name) and target.id == "REMEDIES" and isinstance(value, ast.Dict):
                found.update(str(key.value) for key in value.keys if isinstance(key, ast.Constant))
    return found


def test_every_finding_is_documented_and_every_documented_one_exists() -> None:
    text = (DOCS / "findings.md").read_text().partition("## Results of a cycle")[0]
    cells = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", text, re.M)
    documented = {code for cell in cells for code in re.findall(r"`([a-z-]+)`", cell)}
    assert len(documented) > 30
    found = codes_in_the_code()
    assert found <= documented
    kinds = {kind.kind for kind in (errors.PrerequisiteError, errors.InputError)}
    assert {code for code in documented - found - kinds if not COMPOSED.match(code)} == set()


# -- links and commands --


def anchors(path: Path) -> set[str]:
    """Return the anchors that a forge makes of a page's headings."""
    titles = re.findall(r"^#{1,6} (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)]+)\)", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)):
            if not link.startswith(("http://", "https://", "mailto:")):
                yield page, link


def test_every_link_leads_somewhere() -> None:
    broken = []
    for page, link in links():
        name, _hash, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{page.name}: {link}")
    assert broken == []


def test_every_command_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.M))
    for page in PAGES:
        text = page.read_text()
        for target in re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.M):
            assert target in targets, (page.name, target)
        for playbook in re.findall(r"playbooks/([a-z_]+)\.yml", text):
            assert (PROJECT / "playbooks" / f"{playbook}.yml").exists(), (page.name, playbook)
        for inventory in re.findall(r"-i (inventories/\w+)", text):
            assert (PROJECT / inventory).exists(), (page.name, inventory)
        for variable in re.findall(r"-e (dbc_\w+)=", text):
            assert any(variable in path.read_text() for path in (COLLECTION / "playbooks").rglob("*.yml")), (
                page.name,
                variable,
            )


def test_the_readme_names_each_module_and_playbook_and_no_other() -> None:
    modules = {path.stem for path in (COLLECTION / "plugins/modules").glob("*.py")}
    for readme in READMES:
        text = readme.read_text()
        section = re.split(r"^## ", text, flags=re.M)
        (listed,) = [part for part in section if part.startswith(("Modules", "Modul\n"))]
        assert set(re.findall(r"^\| `(\w+)` \|", listed, re.M)) == modules
        for playbook in (PROJECT / "playbooks").glob("*.yml"):
            assert f"`{playbook.stem}`" in text, playbook


def test_the_readme_has_every_clause_once() -> None:
    wanted = [
        "D1",
        "D2",
        "D3",
        "D4",
        "D5",
        "B1",
        "B2",
        "B3",
        "B4",
        "B5",
        "T1",
        "T2",
        "R1",
        "R2",
        "R3",
        "U1",
        "U2",
        "U3",
        "U4",
    ]
    for readme in READMES:
        assert re.findall(r"^\| ([DBTRU]\d) \|", readme.read_text(), re.M) == wanted


def test_both_readmes_have_the_same_parts() -> None:
    english, indonesian = READMES
    assert headings(english) == headings(indonesian)
    assert [block.text for block in fenced(english)] == [block.text for block in fenced(indonesian)]
    rows = [len(re.findall(r"^\|", page.read_text(), re.M)) for page in READMES]
    assert rows[0] == rows[1]


def test_the_readme_shows_the_columns_that_the_demo_prints() -> None:
    source = (PROJECT / "demo/run.py").read_text()
    (shown, *_) = [block.text.splitlines()[0] for block in fenced(READMES[0])]
    assert shown.split() == ["clause", "instance", "result", "evidence"]
    assert '("clause", "instance", "result", "evidence")' in source


# -- dependencies --


def test_every_dependency_has_its_reason() -> None:
    text = (DOCS / "dependencies.md").read_text()
    parts = re.split(r"^## ", text, flags=re.M)

    def listed(title: str) -> set[str]:
        (part,) = [each for each in parts if each.startswith(title)]
        return set(re.findall(r"^\| ([\w.-]+) \|", part, re.M)) - {"package", "collection", "---"}

    def pinned(name: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+)==", (PROJECT / name).read_text(), re.M))

    collections = set(re.findall(r"^  - name: (\S+)", (PROJECT / "requirements.yml").read_text(), re.M))
    assert listed("Control node") == pinned("requirements.txt") | collections
    assert listed("Demo") == pinned("requirements-demo.txt")
    assert listed("Tests") == pinned("requirements-test.txt")
    assert listed("Debian") == set(re.findall(r"^([a-z0-9-]+) \[", (PROJECT / "bindep.txt").read_text(), re.M))
