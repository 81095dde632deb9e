"""The US sections: every published table by its own count of bits, every value, and the GPC sub-section."""

import pytest

from orchestration.consent.signals.results import NotUnderstood
from orchestration.consent.signals.us_sections import SECTIONS, read_us_section
from tests.unit.consent.signals.encoder import OPT_OUTS, OPT_OUTS_ELSEWHERE, US, encoded, number, us_section

KEYS = list(US)
NAMES = [f"{US[key][0]}v{key[1]}" for key in KEYS]
LENGTHS = {key: singles + sensitive + child + between + 3 for key, (_, singles, sensitive, child, between, _) in US.items()}


def refused(section_id: int, text: str, reason: str) -> None:
    with pytest.raises(NotUnderstood, match=reason):
        read_us_section(section_id, text)


def test_the_tables_are_the_published_sections():
    assert set(SECTIONS) == set(US)
    assert {key: (section.prefix, section.has_gpc) for key, section in SECTIONS.items()} == {
        key: (prefix, gpc) for key, (prefix, *_, gpc) in US.items()
    }


@pytest.mark.parametrize("key", KEYS, ids=NAMES)
def test_each_value_is_read_at_its_place(key):
    """One value is set to 1 among values of 2, and moved through the section; the flat order is the published one."""
    prefix, singles, sensitive, child, _, _ = US[key]
    for place in range(LENGTHS[key]):
        values = [2] * LENGTHS[key]
        values[place] = 1
        found = read_us_section(key[0], us_section(key, values))
        flat = [each for name, value in found.fields.items() if name not in ("Version", "Gpc")
                for each in (value if isinstance(value, tuple) else (value,))]
        assert (found.kind, found.fields["Version"], found.fields["Gpc"], flat) == (prefix, key[1], None, values)
        sale, sharing, ads = OPT_OUTS.get(prefix, OPT_OUTS_ELSEWHERE)
        assert (found.fields["SaleOptOut"] == 1) == (place == sale)
        assert (found.fields.get("SharingOptOut") == 1) == (place == sharing)
        assert (found.fields.get("TargetedAdvertisingOptOut") == 1) == (place == ads)
        assert (1 in found.fields["SensitiveDataProcessing"]) == (singles <= place < singles + sensitive)
        known = found.fields["KnownChildSensitiveDataConsents"]
        assert (1 in (known if isinstance(known, tuple) else (known,))) == (0 <= place - singles - sensitive < child)
        assert (found.fields["MspaCoveredTransaction"] == 1) == (place == LENGTHS[key] - 3)


@pytest.mark.parametrize("key", KEYS, ids=NAMES)
def test_the_reserved_value_is_refused_at_every_place(key):
    for place in range(LENGTHS[key]):
        values = [2] * LENGTHS[key]
        values[place] = 3
        refused(key[0], us_section(key, values), f"value {place + 1} of {US[key][0]} is 3")


@pytest.mark.parametrize("key", KEYS, ids=NAMES)
def test_lengths_and_versions_are_exact(key):
    whole = us_section(key)
    refused(key[0], us_section(key, [2] * (LENGTHS[key] - 3)), "cut off")
    refused(key[0], us_section(key, [2] * (LENGTHS[key] + 3)), "follow the last field|padding")
    refused(key[0], whole[:-1], "cut off|follow")
    for version in (0, 3, 4, 63) if key[0] == 7 else (0, 2, 3, 63):
        refused(key[0], us_section(key, version=version), f"version {version} of section {key[0]}")
    refused(key[0], us_section(key, mspa=(0, 0, 0)), "MspaCoveredTransaction has the value 0")
    refused(key[0], "", "empty segment")


@pytest.mark.parametrize("key", KEYS, ids=NAMES)
def test_gpc_follows_only_where_it_is_defined(key):
    """usva, usut and usfl define no sub-section at all."""
    if not US[key][-1]:
        refused(key[0], us_section(key, gpc="1"), "more sub-sections")
        return
    for pad_to in (6, 8, 24):
        assert read_us_section(key[0], us_section(key, gpc="1", pad_to=pad_to)).fields["Gpc"] is True
        assert read_us_section(key[0], us_section(key, gpc="0", pad_to=pad_to)).fields["Gpc"] is False
    core, gpc = us_section(key, gpc="1").split(".")
    refused(key[0], f"{gpc}.{core}", "version 24")
    refused(key[0], f"{core}.{gpc}.{gpc}", "more sub-sections")
    refused(key[0], f"{core}.{core}", "type 0")
    refused(key[0], f"{core}.", "empty segment")
    for kind in (0, 2, 3):
        refused(key[0], f"{core}.{encoded(number(kind, 2) + '1')}", f"type {kind}")
    refused(key[0], f"{core}.{encoded('011' + '001')}", "padding is not zero")
    refused(key[0], f"{core}.{encoded('011')}AAAA", "follow the last field")
