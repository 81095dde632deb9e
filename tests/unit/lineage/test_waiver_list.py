"""The list of waivers: each entry has a reviewer, a reason and an end, or the whole list is refused."""

from datetime import date

import pytest

from orchestration.lineage.waivers import WaiverError, load_waivers

GOOD = """
waivers:
  - rule: gate
    relation: features.mean
    source: raw.transactions
    reviewer: privacy@example.org
    reason: A published national statistic, agreed with the officer.
    reviewed: 2026-01-01
    expires: 2026-06-01
"""


def listed(tmp_path, text: str):
    path = tmp_path / "waivers.yml"
    path.write_text(text)
    return load_waivers(path)


def test_a_complete_waiver_is_read_and_ends_on_its_day(tmp_path):
    (waiver,) = listed(tmp_path, GOOD)
    assert waiver.in_force(date(2026, 5, 31)) and not waiver.in_force(date(2026, 6, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    reviewer: privacy@example.org\n", ""),
        ("privacy@example.org", "''"),
        ("    reason: A published national statistic, agreed with the officer.\n", "    reason: because\n"),
        ("    expires: 2026-06-01\n", ""),
        ("2026-06-01", "2027-06-01"),
        ("2026-06-01", "2025-12-31"),
        ("rule: gate", "rules: gate"),
        ("waivers:", "exceptions:"),
    ],
)
def test_an_incomplete_waiver_refuses_the_list(tmp_path, old, new):
    """Without a person who answers for it and a day on which it ends, an exception becomes the rule."""
    with pytest.raises((WaiverError, ValueError)):
        listed(tmp_path, GOOD.replace(old, new, 1))


def test_one_case_is_waived_once(tmp_path):
    with pytest.raises(WaiverError, match="twice"):
        listed(tmp_path, GOOD + GOOD.split("waivers:\n")[1])


def test_the_shipped_list_can_be_read():
    load_waivers()
