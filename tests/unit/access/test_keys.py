"""Keys and the algorithms that they allow."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from restate_pubsub.access.keys import key_of, keys_of_set
from restate_pubsub.errors import ConfigError
from support.tokens import SECRET, ec_key, ed_key, jwk, public_pem, rsa_key


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (32, ("HS256",)),
        (48, ("HS256", "HS384")),
        (64, ("HS256", "HS384", "HS512")),
        (len(SECRET), ("HS256", "HS384", "HS512")),
    ],
)
def test_a_shared_secret_verifies_what_it_is_long_enough_for(length: int, expected: tuple[str, ...]) -> None:
    """Each HMAC needs a key as long as its hash."""
    assert expected == key_of(SECRET[:length], []).algorithms


@pytest.mark.parametrize(
    ("text", "wanted", "said"),
    [
        (SECRET[:31], [], "31 bytes, HS256 needs 32"),
        (SECRET[:32], ["HS512"], "32 bytes, HS512 needs 64"),
        (SECRET[:32], ["HS256", "HS384"], "32 bytes, HS384 needs 48"),
        (SECRET[:64], ["RS256"], "RS256 is not for a shared secret"),
        (SECRET[:64], ["none"], "none is not for a shared secret"),
        ("x" * 32, [], "fewer than 8 different characters"),
        ("1234567" * 9, [], "fewer than 8 different characters"),
        (public_pem(rsa_key()), ["HS256"], "HS256 is not for an RSA key"),
        (public_pem(rsa_key()), ["RS256", "HS256"], "HS256 is not for an RSA key"),
        (public_pem(rsa_key()), ["ES256"], "ES256 is not for an RSA key"),
        (public_pem(ec_key()), ["ES384"], "ES384 is not for a secp256r1 key"),
        (public_pem(rsa_key(1024)), [], "1024 bits; at least 2048"),
        (public_pem(ec_key(ec.SECP256K1())), [], "secp256k1 is not one of"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", [], "not a public key that can be used"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", [], "openssl x509"),
        ("-----BEGIN PUBLIC KEY-----", [], "not a public key that can be used"),
        ("AAAA\n-----END PUBLIC KEY-----", [], "not a public key that can be used"),
    ],
)
def test_a_key_that_is_weak_or_of_another_kind_is_refused(text: str, wanted: list[str], said: str) -> None:
    """It is refused when the service starts, with the reason, and the key itself is not shown."""
    with pytest.raises(ConfigError, match=said) as caught:
        key_of(text, wanted)
    assert text not in str(caught.value)


def test_a_private_key_is_refused() -> None:
    """Who only verifies must not hold it."""
    pem = ed_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ConfigError, match="is a private key"):
        key_of(pem, [])


@pytest.mark.parametrize(
    ("pem", "expected"),
    [
        (public_pem(rsa_key()), ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        (public_pem(ec_key()), ("ES256",)),
        (public_pem(ec_key(ec.SECP384R1())), ("ES384",)),
        (public_pem(ec_key(ec.SECP521R1())), ("ES512",)),
        (public_pem(ed_key()).replace("\n", "\\n"), ("EdDSA",)),
    ],
)
def test_a_public_key_verifies_what_its_kind_can(pem: str, expected: tuple[str, ...]) -> None:
    """Never HS*: the text of a public key is no secret. Line feeds may be escaped."""
    assert expected == key_of(pem, []).algorithms


def test_the_algorithms_can_be_narrowed() -> None:
    """PUBSUB_JWT_ALGORITHMS leaves only those it names."""
    assert key_of(public_pem(rsa_key()), ["RS256"]).algorithms == ("RS256",)
    assert key_of(SECRET[:64], ["HS384"]).algorithms == ("HS384",)


def test_a_set_is_read_for_its_usable_keys() -> None:
    """Secrets, private keys, keys for encryption, weak ones and unknown kinds are passed over."""
    good, pinned = jwk(ec_key(), "good"), jwk(rsa_key(), "pinned", alg="RS256", use="sig")
    document = {
        "keys": [
            good,
            pinned,
            {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "secret"},
            jwk(rsa_key(), "encrypts", use="enc"),
            jwk(rsa_key(), "signs", key_ops=["sign"]),
            jwk(rsa_key(1024), "weak"),
            jwk(rsa_key(), "confused", alg="HS256"),
            jwk(ec_key(), "private", d="AAAA"),
            {"kty": "EC", "crv": "P-256", "kid": "torn"},
            {"kty": "NEW", "kid": "new"},
            {"kty": ["EC"]},
            {"kty": "RSA", "kid": 7},
            "text",
        ]
    }
    found = keys_of_set(document, [])
    assert [(key.kid, key.algorithms) for key in found] == [("good", ("ES256",)), ("pinned", ("RS256",))]
    assert [key.kid for key in keys_of_set(document, ["RS256"])] == ["pinned"]


@pytest.mark.parametrize("document", [[], {}, {"keys": {}}, None, "keys"])
def test_what_is_no_set_is_refused(document: object) -> None:
    """A host that answers something else has no keys for us."""
    with pytest.raises(ValueError, match="not a JWKS document"):
        keys_of_set(document, [])
