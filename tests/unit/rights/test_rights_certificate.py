"""A certificate that was altered, or signed by somebody else, is no certificate."""

import json

import pytest

from orchestration.identity.keys import load_keys
from orchestration.rights import certificate
from orchestration.rights.errors import CertificateError
from orchestration.settings import Settings


@pytest.fixture
def home(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def signed(home):
    return certificate.sign(load_keys(home), {"request_id": "RR-1", "outcome": "erased", "stores": [{"store": "lake"}]})


def test_a_good_certificate_passes_also_after_it_was_written_and_read(home, signed):
    certificate.store(home, signed)
    read = certificate.read(home, "RR-1")
    certificate.check(read, certificate.public_key(load_keys(home)))
    certificate.check(json.loads(json.dumps(read, indent=7)))


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(outcome="refused"),
        lambda body: body["stores"].clear(),
        lambda body: body.update(added=1),
        lambda body: body["signature"].update(value="AAAA"),
        lambda body: body["signature"].pop("value"),
        lambda body: body.pop("signature"),
        lambda body: body["signature"].update(algorithm="none"),
    ],
)
def test_any_change_is_noticed(signed, change):
    change(signed)
    with pytest.raises(CertificateError):
        certificate.check(signed)


def test_a_certificate_of_another_installation_is_not_trusted(signed, home, tmp_path):
    other = load_keys(Settings(home=tmp_path / "other"))
    forged = certificate.sign(other, {name: value for name, value in signed.items() if name != "signature"})
    certificate.check(forged)  # a signature it has
    with pytest.raises(CertificateError, match="another key"):
        certificate.check(forged, certificate.public_key(load_keys(home)))


def test_a_request_without_one_says_so(home):
    with pytest.raises(CertificateError, match="no certificate"):
        certificate.read(home, "RR-9")
