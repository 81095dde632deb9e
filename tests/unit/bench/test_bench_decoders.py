"""The decoders' figures are those of strings that were understood. No figure is asserted: a busy machine measures itself."""

import random

import pytest

from orchestration.bench import decoders
from orchestration.consent.signals.decoding import decode
from orchestration.consent.signals.results import Unknown


def test_every_decoder_has_a_figure():
    figures = decoders.decoder_speeds(count=20)
    assert set(figures) >= {"tcf", "tcf_ranges", "gpp_us", "gpp_tcfeu_us", "usp", "tcf_with_states", "gpp_us_with_states"}
    assert all(isinstance(figure, int) and figure > 0 for figure in figures.values())


def test_generated_strings_differ():
    """One string a thousand times over would measure a memory of it."""
    rng = random.Random(1)
    assert len({decoders.tc_string(rng) for _ in range(200)}) == 200


def test_strings_that_are_not_understood_are_no_measurement(monkeypatch):
    monkeypatch.setattr(decoders, "us_privacy", lambda rng: "1YY")
    assert isinstance(decode("1YY", decoders.NOW), Unknown)
    with pytest.raises(ValueError, match="string is not understood"):
        decoders.decoder_speeds(count=2)
