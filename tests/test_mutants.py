"""The list of faults is kept up to date: each line that a fault replaces stands once in its file."""

from pathlib import Path

from tests.mutants import faults

ROOT = Path(__file__).parent.parent


def test_every_fault_replaces_a_line_that_is_there_once():
    missing = {
        (group.place, old): len(found)
        for group in faults.GROUPS
        for old, new in group.faults
        if old == new or len(found := group.holds(ROOT, old)) != 1
    }
    assert missing == {}


def test_every_group_names_tests_that_exist():
    assert [name for group in faults.GROUPS for name in group.tests if not (ROOT / "tests" / name).is_file()] == []


def test_every_fault_that_is_left_alone_has_its_reason():
    listed = {fault for group in faults.GROUPS for fault in group.faults}
    assert set(faults.UNSEEN) <= listed
    assert all(faults.UNSEEN.values())
