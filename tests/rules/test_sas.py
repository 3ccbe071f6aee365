"""Shared access signatures: made as the broker makes them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from delta_mirror.nexus.sas import sign

URI = "https://nowhere.servicebus.windows.net/client-profiles/subscriptions/county"
ENCODED = "https%3A%2F%2Fnowhere.servicebus.windows.net%2Fclient-profiles%2Fsubscriptions%2Fcounty"
KEY = "bm90IGEgcmVhbCBrZXk="


def test_token_is_what_openssl_makes_of_the_same() -> None:
    # printf '%s\n1777899600' ENCODED | openssl dgst -sha256 -hmac KEY -binary | base64
    assert sign(URI, "listen-only", KEY, 1777899600) == (
        f"SharedAccessSignature sr={ENCODED}&sig=mZ20yCs75qB8HT%2F4PvwPPT78JuJaU4DE8u%2FNBG4cIUk%3D&se=1777899600&skn=listen-only"
    )


def test_every_part_that_is_signed_changes_the_signature() -> None:
    tokens = [sign(URI, "n", KEY, 5), sign(URI + "x", "n", KEY, 5), sign(URI, "n", KEY + "x", 5), sign(URI, "n", KEY, 6)]
    assert len({re.search("sig=([^&]+)", token)[1] for token in tokens}) == 4  # type: ignore[index]  # every token has one


@given(st.text(), st.text(), st.integers(0, 2**40))
def test_token_can_stand_in_a_header_and_never_holds_the_key(key: str, name: str, expiry: int) -> None:
    token = sign(URI, name, f"<{key}>", expiry)
    assert re.fullmatch(r"SharedAccessSignature sr=[!-~]+&sig=[!-~]+&se=\d+&skn=[!-~]*", token)
    assert f"<{key}>" not in token
