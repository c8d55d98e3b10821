import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass_pipelines.data.pii import KINDS, mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jane.doe+x@mail.example.org.", "write to [EMAIL]."),
        ("müller@firma.example, a@b.example", "[EMAIL], [EMAIL]"),
        ("call +49 (30) 123-4567 or (212) 555-0123", "call [PHONE] or [PHONE]"),
        ("1-800-555-0199", "[PHONE]"),
        ("card 4111 1111 1111 1111!", "card [CREDIT_CARD]!"),
        ("card 4111-1111-1111-1111", "card [CREDIT_CARD]"),
        ("378282246310005", "[CREDIT_CARD]"),
        ("pay to DE89 3704 0044 0532 0130 00 NOW", "pay to [IBAN] NOW"),
        ("GB82WEST12345698765432", "[IBAN]"),
        ("ssn 123-45-6789.", "ssn [US_SSN]."),
        ("from 192.168.0.1 and 2001:db8::8a2e:370:7334, fe80::1", "from [IP_ADDRESS] and [IP_ADDRESS], [IP_ADDRESS]"),
    ],
)
def test_personal_data_is_masked(text: str, masked: str) -> None:
    assert mask(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # the Luhn sum is off by one
        "DE89370400440532013001",  # so is mod 97
        "GB46123456987654321234",  # mod 97 is right, but a British IBAN begins with the letters of a bank
        "000-45-6789 and 666-45-6789 and 912-45-6789",
        "999.1.2.3 and 1.2.3.4.5",
        "at 12:30:45 and 12:30",
        "std::vector<int> and a@b",
        "ISO 9001:2015, 1,234,567.89 and 20261122",
        "order 12345-67890",
    ],
)
def test_text_that_only_resembles_personal_data_is_unchanged(text: str) -> None:
    assert mask(text) == (text, {})


def test_matches_are_counted_by_kind() -> None:
    assert mask("a@b.example a@c.example 10.0.0.1")[1] == {"email": 2, "ip-address": 1}


def test_only_the_requested_kinds_are_masked() -> None:
    assert mask("a@b.example 10.0.0.1", ["ip-address"])[0] == "a@b.example [IP_ADDRESS]"


def test_matches_created_by_masking_are_masked_too() -> None:
    masked, _ = mask("4111 1111 1111 1111 212-555-0123")
    assert masked == mask(masked)[0]
    assert "4111" not in masked


pieces = st.sampled_from(
    [
        *" .-:@+()/\n",
        "4111 1111 1111 1111",
        "123-45-6789",
        "212-555-0123",
        "a@b.example",
        "10.0.0.1",
        "DE89370400440532013000",
    ]
)


@given(st.lists(pieces | st.text("0123456789abAB:.- ", max_size=6), max_size=12).map("".join))
def test_masking_is_idempotent(text: str) -> None:
    masked, _ = mask(text)
    assert mask(masked) == (masked, {})


@pytest.mark.parametrize("unit", ["a", "1", "1 ", "1-", "+1 ", "a.", "a@", "@a.", "A1", "f:", "::", "1.", "(", "DE89 "])
def test_masking_takes_linear_time(unit: str) -> None:
    """A quadratic pattern would need minutes for the second text; the bound allows for a busy machine."""
    begun = time.process_time()
    mask(unit * (300_000 // len(unit)), KINDS)
    assert time.process_time() - begun < 10


def test_a_long_number_after_a_plus_costs_little_time() -> None:
    """A group that matches one number in many ways would need 30 CPU seconds; the bound allows for a busy machine."""
    begun = time.process_time()
    mask(("+" + 33 * "1" + "a ") * 10_000, KINDS)
    assert time.process_time() - begun < 5
