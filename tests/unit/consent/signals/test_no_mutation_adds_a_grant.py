"""The invariant of all decoders: no change to a string adds a grant, unless the changed string is itself well-formed and says so.

What is well-formed is judged by re-encoding what was understood with the tests' own encoder; what it says, by looking at the
bits at the places that the specification gives them.
"""

from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.consent.signals.decoding import decode
from orchestration.consent.signals.meaning import consent_events, findings, states
from orchestration.consent.signals.results import Signal, Unknown
from tests.unit.consent.signals.encoder import (
    ALPHABET,
    NOW,
    US,
    core_bits,
    disclosed_bits,
    encoded,
    gpp_string,
    header,
    is_encoding,
    number,
    publisher_bits,
    range_entries,
    raw_bits,
    tc_string,
    tcf_again,
    us_again,
    us_section,
    vendor_field,
    vendor_ranges,
)

NEEDED = {"analytics": (1, 8, 9, 10), "personalisation": (1, 5, 6), "ads_sale_share": (1, 2, 3, 4, 7)}
CONSENTS_AT = 6 + 36 + 36 + 12 + 12 + 6 + 12 + 12 + 6 + 1 + 1 + 12      # the first bit of PurposesConsent in the core segment
PUB_CONSENTS_AT = 3
PAD_TO = st.sampled_from([6, 8, 24])
PURPOSE_IDS = st.sets(st.integers(1, 11))


def granted(text: str) -> set[str]:
    return {purpose for purpose, (state, _) in states(decode(text, NOW), NOW).items() if state in ("granted", "expired")}


def grants_of_tc_bits(text: str) -> set[str]:
    """What a TC string grants, by position alone."""
    core, *others = map(raw_bits, text.split("."))
    consented = {purpose for purpose in range(1, 25) if core[CONSENTS_AT + purpose - 1] == "1"}
    for segment in others:
        if segment.startswith("011"):
            consented &= {purpose for purpose in range(1, 25) if segment[PUB_CONSENTS_AT + purpose - 1] == "1"}
    return {purpose for purpose, needed in NEEDED.items() if consented.issuperset(needed)}


def grants_of_us_bits(section_id: int, text: str) -> tuple[set[str], bool]:
    """What a US section grants by position alone, and whether it knows the person for a child."""
    bits = raw_bits(text.split(".")[0])
    prefix, singles, sensitive, child, _, _ = US[section_id, int(bits[:6], 2)]
    values = [bits[at : at + 2] for at in range(6, len(bits) - 1, 2)]
    consents = values[singles : singles + sensitive]
    known_child = set(values[singles + sensitive : singles + sensitive + child]) != {"00"}
    return {"sensitive"} if set(consents) == {"10"} and prefix not in ("usca", "usut", "usia") else set(), known_child


def well_formed_grants(text: str) -> set[str]:
    """The grants that a text is allowed: none unless it is the encoding of what was understood, else what its bits say."""
    found = decode(text, NOW)
    if not isinstance(found, Signal):
        return set()
    if found.kind == "tcf":
        assert is_encoding(text, tcf_again(found.fields))
        return grants_of_tc_bits(text)
    if found.kind != "gpp":
        return set()
    head, *parts = text.split("~")
    ids = found.fields["SectionIds"]
    assert raw_bits(head).startswith("000011" "000001") and len(ids) == len(parts) == len(set(ids)) and list(ids) == sorted(ids)
    allowed: set[str] = set()
    child = False
    for section_id, part, section in zip(ids, parts, found.sections, strict=True):
        if section.kind == "tcfeuv2":
            assert is_encoding(part, tcf_again(section.fields))
            allowed |= grants_of_tc_bits(part)
        elif section.kind != "uspv1":
            assert is_encoding(part, us_again(section.fields))
            grants, known_child = grants_of_us_bits(section_id, part)
            allowed |= grants
            child |= known_child
    return set() if child else allowed


@st.composite
def groups(draw) -> list[tuple[int, int]]:
    """Groups of vendor ids that do not touch."""
    found, last = [], 0
    for _ in range(draw(st.integers(0, 4))):
        first = last + draw(st.integers(1, 9))
        last = first + draw(st.integers(0, 6))
        found.append((first, last))
    return found


@st.composite
def vendor_sections(draw) -> str:
    chosen = draw(groups())
    highest = max((last for _, last in chosen), default=0)
    if draw(st.booleans()):
        return vendor_ranges(chosen, highest + draw(st.integers(0, 3)))
    return vendor_field({each for first, last in chosen for each in range(first, last + 1)}, highest + draw(st.integers(0, 3)))


@st.composite
def tc_strings(draw, consents=PURPOSE_IDS) -> str:
    """Any well-formed TC string of v2.2 or v2.3."""
    chosen = draw(consents)
    day = datetime(2025, 10, 1, tzinfo=UTC) + timedelta(days=draw(st.integers(0, 390)))
    entries = draw(st.lists(st.tuples(st.sampled_from(range(1, 12)), st.integers(0, 2), groups()), max_size=2, unique_by=lambda each: each[0]))
    restrictions = number(len(entries), 12) + "".join(number(purpose, 6) + number(kind, 2) + range_entries(each) for purpose, kind, each in entries)
    custom = draw(st.integers(0, 5))
    publisher = publisher_bits(draw(consents), draw(PURPOSE_IDS), custom, draw(st.sets(st.integers(1, 5)))) if draw(st.booleans()) else ""
    optional = day < datetime(2026, 2, 28, tzinfo=UTC) and draw(st.booleans())
    return tc_string(
        disclosed=None if optional else disclosed_bits(draw(vendor_sections())), publisher=publisher, pad_to=draw(PAD_TO),
        created=day, policy=draw(st.sampled_from([4, 5])), features=draw(st.sets(st.integers(1, 2))), consents=chosen,
        interests=draw(PURPOSE_IDS) - {3, 4, 5, 6}, one_treatment="01"[1 not in chosen and draw(st.booleans())],
        vendors=draw(vendor_sections()), li_vendors=draw(vendor_sections()), restrictions=restrictions,
    )


@st.composite
def us_sections_of(draw, key) -> str:
    _, singles, sensitive, child, between, has_gpc = US[key]
    count = singles + sensitive + child + between
    values = draw(st.lists(st.sampled_from([0, 1, 2]), min_size=count, max_size=count))
    if draw(st.booleans()):
        values[singles : singles + sensitive + child] = [2] * sensitive + [0] * child       # else sensitive grants were rare
    values += [draw(st.sampled_from([1, 2])), *draw(st.tuples(*[st.sampled_from([0, 1, 2])] * 2))]
    return us_section(key, values, gpc=draw(st.sampled_from([None, "0", "1"])) if has_gpc else None, pad_to=draw(PAD_TO))


@st.composite
def gpp_strings(draw) -> str:
    """Any well-formed GPP string of one to four sections."""
    keys = draw(st.lists(st.sampled_from([(2, 0), (6, 0), *US]), min_size=1, max_size=4, unique_by=lambda key: key[0]))
    parts = {}
    for key in sorted(keys):
        if key == (2, 0):
            parts[2] = draw(tc_strings())
        elif key == (6, 0):
            parts[6] = draw(st.sampled_from(["1YNN", "1YYN", "1---"]))
        else:
            parts[key[0]] = draw(us_sections_of(key))
    return gpp_string(parts, draw(PAD_TO))


STRINGS = tc_strings() | gpp_strings() | st.sampled_from(["1YNN", "1YYN", "1---", "1"])


CHANGES = ("cut", "cut_front", "flip", "flip", "flip", "substitute", "insert", "delete", "concatenate", "repeat", "drop_part", "swap_parts")


def mutated(text: str, other: str, rng: Random) -> str:
    """The text after one to three changes; some join it with the other text."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randint(0, len(text))
        change = rng.choice(CHANGES)
        if change == "cut":
            text = text[:at]
        elif change == "cut_front":
            text = text[at:]
        elif change == "flip" and at < len(text) and text[at] in ALPHABET:
            text = text[:at] + ALPHABET[ALPHABET.index(text[at]) ^ 1 << rng.randint(0, 5)] + text[at + 1 :]
        elif change == "substitute":
            text = text[:at] + rng.choice(ALPHABET + ".~=") + text[at + 1 :]
        elif change == "insert":
            text = text[:at] + "".join(rng.choices(ALPHABET + ".~", k=rng.randint(1, 4))) + text[at:]
        elif change == "delete":
            text = text[:at] + text[at + rng.randint(1, 4) :]
        elif change == "concatenate":
            text += rng.choice(("", ".", "~")) + other
        elif change == "repeat":
            text = text[:at] + text[at:] * 2
        else:
            mark = "~" if "~" in text else "."
            parts = text.split(mark)
            place = rng.randrange(len(parts))
            text = mark.join(parts[:place] + parts[place + 1 :] if change == "drop_part" else parts[place:] + parts[:place])
    return text


@settings(max_examples=150, deadline=None)
@given(STRINGS)
def test_well_formed_strings_are_understood_and_grant_what_their_bits_say(text):
    """The positive control: without it the invariant below would hold for a decoder that refuses everything."""
    assert isinstance(decode(text, NOW), Signal)
    refused = {purpose for purpose, (state, _) in states(decode(text, NOW), NOW).items() if state == "denied"}
    assert granted(text) == well_formed_grants(text) - refused


@settings(max_examples=150, deadline=None)
@given(STRINGS, STRINGS, st.integers(0, 2**32))
def test_no_mutation_adds_a_grant(text, other, seed):
    rng = Random(seed)
    for _ in range(20):
        changed = mutated(text, other, rng)
        assert granted(changed) <= well_formed_grants(changed), changed


@settings(max_examples=150, deadline=None)
@given(gpp_strings(), st.data())
def test_no_broken_section_takes_a_neighbour_s_refusal_or_leaves_a_grant(text, data):
    """Break one section of any well-formed string: every refusal of the others stands, and nothing is granted."""
    whole = decode(text, NOW)
    head, *parts = text.split("~")
    broken = data.draw(st.integers(0, len(parts) - 1))
    parts[broken] = data.draw(st.sampled_from(["", "!", parts[broken] + ".", parts[broken][:1]]))
    found = decode("~".join((head, *parts)), NOW)
    others = whole._replace(sections=whole.sections[:broken] + whole.sections[broken + 1 :])
    refusals = {finding for finding in findings(others) if finding.action != "granted"} if others.sections else set()
    assert isinstance(found, Unknown) and set(findings(found)) == refusals
    assert {state for state, _ in states(found, NOW).values()} <= {"unknown", "denied"}
    assert {event.action for event in consent_events(found, NOW)} <= {"denied", "gpc_on"}


@settings(max_examples=150, deadline=None)
@given(st.text(ALPHABET + ".~", max_size=120) | st.text(max_size=40))
def test_no_text_grants_unless_it_is_well_formed(text):
    for start in ("", "C", "D", "1"):
        assert granted(start + text) <= well_formed_grants(start + text)


REFUSALS = [
    tc_string(), tc_string(disclosed=None, created=datetime(2026, 2, 1, tzinfo=UTC)), tc_string(publisher=publisher_bits(), pad_to=24),
    tc_string(consents=(1, 2, 9), interests=(2, 7, 8, 9, 10), vendors=vendor_ranges([(1, 700)], 700), disclosed=disclosed_bits(vendor_field((1, 99)))),
    gpp_string({2: tc_string(), 6: "1YYN", 7: us_section((7, 1), sale=1, gpc="1")}),
    *(gpp_string({key[0]: us_section(key, sale=1, sensitive=1, child=1, gpc="1" if US[key][-1] else None)}) for key in US if key[0] in (7, 8, 16)),
    "1YYN", "1NYY", "1-Y-",
]


def test_refusals_never_grant_when_cut():
    """Every prefix and every suffix of strings that only refuse. A public Python library grants in 21 of 32 such cuts."""
    for text in REFUSALS:
        assert isinstance(decode(text, NOW), Signal), text
        assert not any(granted(text[:end]) or granted(text[end:]) for end in range(len(text) + 1)), text


def test_grants_never_grow_when_cut():
    """Every prefix of strings that grant: what is still understood grants no more than the whole."""
    for text in (tc_string(consents=range(1, 12)), tc_string(consents=(1, 5, 6), publisher=publisher_bits((1, 5, 6)), pad_to=8),
                 gpp_string({7: us_section((7, 2), sensitive=2, gpc="0")})):
        whole = granted(text)
        assert whole
        for end in range(len(text)):
            assert granted(text[:end]) <= whole and granted(text[:end]) <= well_formed_grants(text[:end])


def test_every_single_bit_flip_of_a_refusal_grants_only_what_the_bit_says():
    """Exhaustively: a flip may give a well-formed string with one more consent, which alone never suffices for a purpose."""
    text = tc_string(consents=())
    bits = core_bits(consents=())
    for at in range(len(bits)):
        flipped = bits[:at] + "10"[int(bits[at])] + bits[at + 1 :]
        assert not granted(encoded(flipped) + "." + text.split(".")[1])


def test_a_flip_in_the_header_never_turns_one_section_into_another():
    """The ids say what a section is: a TC string under a US id, or a US section under another state's id."""
    for right, wrong in ((7, 8), (8, 7), (2, 7), (7, 2), (16, 21), (6, 7)):
        body = {2: tc_string(consents=range(1, 12)), 6: "1YNN"}.get(right) or us_section((right, 1), sensitive=2)
        assert not granted(f"{header(wrong)}~{body}")
