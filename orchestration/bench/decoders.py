"""How many consent signals one core decodes in a second, on generated well-formed strings.

Belongs here: making the strings and measuring. Does not belong here: decoding; tests of what is decoded.
"""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

from orchestration.consent.signals.decoding import decode
from orchestration.consent.signals.meaning import states
from orchestration.consent.signals.results import Signal, Unknown

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ROUNDS = 5
VENDORS = 1_000     # as many as a publisher with the whole vendor list shows
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def decoder_speeds(count: int = 2_000, seed: int = 1) -> dict[str, int]:
    """Strings per CPU second of each decoder, and of decoding together with the states per purpose.

    Raises ValueError where a generated string is not understood: a figure for refused strings would be worth nothing.
    """
    rng = random.Random(seed)
    makers: dict[str, Callable[[random.Random], str]] = {
        "tcf": tc_string, "tcf_ranges": tc_string_of_ranges,
        "tcf_mixed_ranges": tc_string_of_mixed_ranges, "gpp_us": gpp_us, "gpp_tcfeu_us": gpp_tcfeu_us, "usp": us_privacy,
    }
    figures = {}
    for name, make in makers.items():
        strings = [make(rng) for _ in range(count)]
        decoded = [decode(text, NOW) for text in strings]
        for signal in decoded:
            if isinstance(signal, Unknown):
                raise ValueError(f"a generated {name} string is not understood: {signal.reason}")
        figures[name] = _per_second(strings, lambda text: decode(text, NOW))
        figures[f"{name}_with_states"] = _per_second(strings, lambda text: states(decode(text, NOW), NOW))
    return figures


def _per_second(strings: list[str], work: Callable[[str], Signal | Unknown | dict]) -> int:
    """The best of several rounds: on a shared machine the others measure the neighbours."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for text in strings:
            work(text)
        best = min(best, time.process_time() - started)
    return round(len(strings) / best)


def _encoded(bits: str) -> str:
    bits += "0" * (-len(bits) % 6)
    return "".join(_ALPHABET[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


def _random_bits(rng: random.Random, count: int) -> str:
    return f"{rng.getrandbits(count):0{count}b}"


def _core(rng: random.Random, vendors: str) -> str:
    day = f"{int(datetime(2026, 10, rng.randint(1, 28), tzinfo=UTC).timestamp()) * 10:036b}"
    head = f"000010{day}{day}{31:012b}{4:012b}{1:06b}{4:06b}{13:06b}{160:012b}{5:06b}10{'0' * 12}"
    purposes = _random_bits(rng, 11) + "0" * 13
    return _encoded(head + purposes + "01" + "0" * 22 + "0" + f"{3:06b}{4:06b}" + vendors + vendors + "0" * 12)


def tc_string(rng: random.Random) -> str:
    """A TC string of v2.3 with bit fields for all vendors and a Publisher TC segment."""
    vendors = f"{VENDORS:016b}0" + _random_bits(rng, VENDORS)
    publisher = _encoded("011" + _random_bits(rng, 11) + "0" * 13 + "0" * 24 + "0" * 6)
    return f"{_core(rng, vendors)}.{_encoded('001' + vendors)}.{publisher}"


def tc_string_of_ranges(rng: random.Random) -> str:
    """The same with ranges: as many as an encoder writes before bit fields are shorter, each a group."""
    return _of_ranges(rng, 1.0)


def tc_string_of_mixed_ranges(rng: random.Random) -> str:
    """The same with every second range entry a single vendor, on average: the most laborious string."""
    return _of_ranges(rng, 0.5)


def _of_ranges(rng: random.Random, grouped: float) -> str:
    starts = sorted(rng.sample(range(1, VENDORS, 4), 25))
    entries = (f"1{start:016b}{start + 2:016b}" if rng.random() < grouped else f"0{start:016b}" for start in starts)
    vendors = f"{VENDORS:016b}1{len(starts):012b}{''.join(entries)}"
    return f"{_core(rng, vendors)}.{_encoded('001' + vendors)}"


def _pairs(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(("00", "01", "10")) for _ in range(count))


def _us(rng: random.Random, pairs: int) -> str:
    """A core sub-section of version 1 with so many pairs before the three MSPA fields, and a GPC sub-section."""
    return _encoded("000001" + _pairs(rng, pairs) + "10" + "0000") + "." + _encoded("01" + rng.choice("01"))


def gpp_us(rng: random.Random) -> str:
    """A GPP string with usnat (24 pairs) and usca (17)."""
    header = _encoded("000011000001" + f"{1:012b}" + "1" + "01011" + "11")
    return f"{header}~{_us(rng, 24)}~{_us(rng, 17)}"


def gpp_tcfeu_us(rng: random.Random) -> str:
    """A GPP string with tcfeuv2, uspv1 and usnat."""
    header = _encoded("000011000001" + f"{2:012b}" + "0" + "011" + "1" + "1011" + "11")
    return f"{header}~{tc_string(rng)}~{us_privacy(rng)}~{_us(rng, 24)}"


def us_privacy(rng: random.Random) -> str:
    """A US Privacy string where the law applies."""
    return "1" + rng.choice("YN-") + rng.choice("YN") + rng.choice("YN-")
