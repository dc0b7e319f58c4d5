"""Versions of software that documents name: only a name that is the hash of its versions is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import score_record

from curation.core.software import of_this_process, software, software_id
from curation.curating.verification import versions
from curation.curating.verification.repairs import RepairWriter, dry_run
from curation.curating.verification.versions import check_named, check_versions, is_newer, known_versions, proved
from curation.storage.store import Store, open_store

OLD = {"python": "3.11.0", "tutelage": "0.0.1"}
NAME = software_id(OLD)
EDITED = {**OLD, "tutelage": "9.9.9"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "scores"))


def put(store: Store, name: str, value: Any) -> None:
    store.put(f"software/{name}.json", json.dumps(value, sort_keys=True).encode())


@pytest.mark.parametrize(
    "said", [None, [], "x", {NAME: EDITED}, {NAME: {}}, {NAME: {"python": 3}}, {"0" * 16: OLD}, {NAME: None}]
)
def test_what_does_not_prove_itself_is_not_believed(said: Any) -> None:
    assert proved(said) == {}
    assert proved({NAME: OLD, "0" * 16: OLD}) == {NAME: OLD}


def test_versions_are_known_from_any_place_that_proves_them(store: Store) -> None:
    assert known_versions(store, None) == of_this_process()
    put(store, NAME, OLD)
    assert known_versions(store, None) == {**of_this_process(), NAME: OLD}
    put(store, NAME, EDITED)
    assert NAME not in known_versions(store, None)
    assert known_versions(store, {NAME: OLD})[NAME] == OLD


def test_an_edited_file_is_rewritten_where_a_document_has_its_versions(store: Store) -> None:
    put(store, NAME, EDITED)
    (finding,) = check_versions(store, {}, dry_run(store))
    assert finding.why and not finding.how and not finding.mended
    (finding,) = check_versions(store, {NAME: OLD}, RepairWriter(store, "r"))
    assert finding.mended and list(check_versions(store, {}, dry_run(store))) == []
    assert store.get(f"repairs/r/aside/software/{NAME}.json"), "the edited file is kept aside"


def test_a_file_of_another_name_is_moved_aside(store: Store) -> None:
    store.put("software/notes.txt", b"mine")
    (finding,) = check_versions(store, {}, dry_run(store))
    assert store.exists("software/notes.txt") and not finding.mended
    (finding,) = check_versions(store, {}, RepairWriter(store, "r"))
    assert finding.mended and not store.exists("software/notes.txt")


def test_a_name_in_one_record_was_edited_and_in_several_the_file_is_missing(store: Store) -> None:
    record = "units/" + "0" * 64 + ".json"
    store.put(record, json.dumps(score_record(software=NAME)).encode())
    put(store, "f" * 16, OLD)
    (edited,) = check_named(store, {NAME: (1, record)}, {}, RepairWriter(store, "r"))
    assert edited.code == "score_record" and json.loads(store.get(record))["software"] is None
    (gone,) = check_named(store, {NAME: (2, record)}, {}, RepairWriter(store, "r"))
    assert gone.code == "software" and gone.why
    (written,) = check_named(store, {NAME: (1, record)}, {NAME: OLD}, RepairWriter(store, "r"))
    assert written.mended and json.loads(store.get(f"software/{NAME}.json")) == OLD
    assert list(check_named(store, {NAME: (1, record)}, {}, dry_run(store))) == []


def test_a_documents_versions_are_put_right_by_what_is_known() -> None:
    assert versions.right_software({NAME: OLD}, {}) == {NAME: OLD}
    assert versions.right_software({NAME: EDITED}, {NAME: OLD}) == {NAME: OLD}
    assert versions.right_software({"0" * 16: OLD}, {NAME: OLD}) == {NAME: OLD}, "the name was edited"
    assert versions.right_software({NAME: EDITED}, {}) is None
    assert versions.right_software({}, {}) is None


@pytest.mark.parametrize(
    ("version", "newer"), [("0.0.1", False), ("9.0", True), ("", False), (None, False), ("10.2.3.4", True)]
)
def test_documents_of_a_later_version_may_have_more_fields(version: str | None, newer: bool) -> None:
    ours = software()["tutelage"]
    given = {} if version is None else {"tutelage": version}
    assert is_newer([given]) is newer and is_newer([{"tutelage": ours}]) is False
    assert is_newer([{"tutelage": ours}, given]) is newer
