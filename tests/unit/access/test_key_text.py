"""What is no shared secret never becomes one, and what is one is never taken for something else."""

from __future__ import annotations

import base64
import json
import secrets
import string
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from restate_pubsub.access.keys import key_of
from restate_pubsub.errors import ConfigError
from support.tokens import SECRET, ec_key, ed_key, jwk, public_pem, rsa_key

PRINTABLE = string.ascii_letters + string.digits + "!#$%&()*+,-.:;=?@^_|~"
RSA, EC, ED = rsa_key(), ec_key(), ed_key()
PUBLIC_KEYS: dict[str, Any] = {"RSA": RSA, "P-256": EC, "P-521": ec_key(ec.SECP521R1()), "Ed25519": ED}


def body(pem: str) -> str:
    return "".join(line for line in pem.splitlines() if "-----" not in line)


def spki(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def private(key: Any, form: PrivateFormat) -> bytes:
    return bytes(key.private_bytes(Encoding.DER, form, NoEncryption()))


SHAPES: dict[str, Callable[[Any], str]] = {
    "one line of base64": lambda key: base64.b64encode(spki(key)).decode(),
    "without padding": lambda key: base64.b64encode(spki(key)).decode().rstrip("="),
    "for URLs": lambda key: base64.urlsafe_b64encode(spki(key)).decode(),
    "the lines between": lambda key: "\n".join(public_pem(key).splitlines()[1:-1]),
    "escaped lines between": lambda key: "\\n".join(public_pem(key).splitlines()[1:-1]),
    "the first of these lines": lambda key: public_pem(key).splitlines()[1],
    "hexadecimal": lambda key: spki(key).hex(),
    "PEM in base64": lambda key: base64.b64encode(public_pem(key).encode()).decode(),
    "JWK": lambda key: json.dumps(jwk(key, "a")),
    "JWKS": lambda key: json.dumps({"keys": [jwk(key, "a")]}, indent=2),
    "PKCS#8": lambda key: base64.b64encode(private(key, PrivateFormat.PKCS8)).decode(),
    "in quotes": lambda key: f"'{body(public_pem(key))}'",
    "OpenSSH": lambda key: key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
}


def ssh(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def b64(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


SHAPES |= {
    "hexadecimal after 0x": lambda key: "0x" + spki(key).hex(),
    "hexadecimal with colons": lambda key: spki(key).hex(":"),
    "hexadecimal of PEM": lambda key: public_pem(key).encode().hex(),
    "hexadecimal of base64": lambda key: b64(spki(key)).encode().hex(),
    "PEM in base64 twice": lambda key: b64(b64(public_pem(key))),
    "PEM in base64 three times": lambda key: b64(b64(b64(public_pem(key)))),
    "PEM in UTF-16 in base64": lambda key: b64(public_pem(key).encode("utf-16")),
    "a data URL": lambda key: "data:;base64," + b64(public_pem(key)),
    "a prefix": lambda key: "base64:" + b64(spki(key)),
    "a comma at its end": lambda key: b64(spki(key)) + ",",
    "without its first bytes": lambda key: b64(spki(key))[4:],
    "OpenSSH's middle": lambda key: ssh(key).split()[1],
    "OpenSSH after a host": lambda key: "host.example " + ssh(key),
    "OpenSSH after options": lambda key: 'no-pty,command="x" ' + ssh(key),
    "OpenSSH in base64": lambda key: b64(ssh(key)),
    "OpenSSH of a security key": lambda key: "sk-ssh-ed25519@openssh.com " + ssh(key).split()[1],
    "JWK in base64": lambda key: b64(json.dumps(jwk(key, "a"))),
    "JWKS in base64 for URLs": lambda key: base64.urlsafe_b64encode(
        json.dumps({"keys": [jwk(key, "a")]}).encode()
    ).decode(),
    "JWKs in a list": lambda key: json.dumps([jwk(key, "a")]),
    "JWK without braces": lambda key: json.dumps(jwk(key, "a"))[1:-1],
    "JWK in YAML": lambda key: "\n".join(f"{name}: {value}" for name, value in jwk(key, "a").items()),
    "JWK in a URL": lambda key: quote(json.dumps([jwk(key, "a")])),
    "what openssl lists": lambda key: "Public-Key: (2048 bit), Modulus: " + spki(key)[-256:].hex(":"),
    "XML": lambda key: f"<RSAKeyValue><Modulus>{b64(spki(key)[30:])}</Modulus></RSAKeyValue>",
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", PUBLIC_KEYS)
def test_a_key_in_another_form_never_becomes_a_shared_secret(kind: str, shape: str) -> None:
    """Whoever knows the public key could sign tokens with it."""
    text = SHAPES[shape](PUBLIC_KEYS[kind])
    with pytest.raises(ConfigError) as caught:
        key_of(text, [])
    assert text not in str(caught.value)
    assert "bytes, HS" not in str(caught.value)


@pytest.mark.parametrize(
    "der",
    [
        RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1),
        private(RSA, PrivateFormat.TraditionalOpenSSL),
        private(EC, PrivateFormat.TraditionalOpenSSL),
    ],
)
def test_older_forms_are_known_as_well(der: bytes) -> None:
    """PKCS#1 and SEC 1."""
    with pytest.raises(ConfigError, match="without its PEM lines"):
        key_of(base64.b64encode(der).decode(), [])


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_point_is_a_key(curve: ec.EllipticCurve) -> None:
    """A random secret of as many bytes that begins alike is none: hardly any is on the curve."""
    point = ec_key(curve).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    for text in (point.hex(), point.hex(":"), b64(point)):
        with pytest.raises(ConfigError, match="a point of an elliptic curve"):
            key_of(text, [])
    for _ in range(300):
        text = b64(b"\x04" + secrets.token_bytes(len(point) - 1))
        assert key_of(text, []).key == text.encode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/run/secrets/jwt", "looks like a path: set PUBSUB_JWT_KEY_FILE"),
        ("/etc/restate/pubsub/secrets/jwtkey/current", "looks like a path"),
        ("/var/run/Secrets/pubsub-key/publicKey_2026", "looks like a path"),
        ("./keys/public", "looks like a path"),
        ("../keys/public", "looks like a path"),
        ("~/keys/public", "looks like a path"),
        ("public.pem", "looks like a path"),
        ("keys/Public Key.PEM", "looks like a path"),
        ("C:\\keys\\public_key", "looks like a path"),
        ("file:///run/secrets/jwt", "looks like a URL: .* PUBSUB_JWKS_URL"),
        ("https://id.example.org/.well-known/jwks.json", "looks like a URL: .* PUBSUB_JWKS_URL"),
        (SECRET + "\n", "has white space"),
        (SECRET + "\r\n", "has white space"),
        (SECRET + "\\n", "has white space"),
        (" " + SECRET, "has white space"),
        (f'"{SECRET}"', "is in quotes"),
        (f"'{SECRET}'", "is in quotes"),
        (json.dumps(jwk(ED, "a")), "looks like a JWK"),
        ("$PUBSUB_JWT_KEY", "variable or a placeholder"),
        ("${PUBSUB_JWT_KEY}", "variable or a placeholder"),
        ("$(cat /run/secrets/jwt)", "variable or a placeholder"),
        ("{{ .Values.jwt.key.of.the.whole.company }}", "variable or a placeholder"),
        ("<the secret of at least thirty-two bytes>", "variable or a placeholder"),
        ("publickeyv1_AfQwmwfgEZhrWpvv8N52SHpRtZqGGaFr4AZN6qtYWSiY", "PUBSUB_RESTATE_IDENTITY_KEYS"),
    ],
)
def test_what_was_meant_otherwise_is_refused_with_the_way_out(text: str, said: str) -> None:
    """It says what the value looks like, and does not show it."""
    with pytest.raises(ConfigError, match=said) as caught:
        key_of(text, [])
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda raw: base64.b64encode(raw).decode(),
        lambda raw: base64.urlsafe_b64encode(raw).decode(),
        lambda raw: base64.b64encode(raw).decode().rstrip("="),
        lambda raw: raw.hex(),
        lambda raw: base64.b32encode(raw).decode(),
        lambda raw: "/" + base64.b64encode(raw).decode(),
    ],
)
def test_a_random_secret_is_a_secret(make: Any) -> None:
    """As `openssl rand` and others write it."""
    for size in [*range(32, 332), *(32, 48, 64) * 300]:
        text = make(secrets.token_bytes(size))
        assert key_of(text, []).key == text.encode()


def test_a_random_secret_of_any_printable_characters_is_a_secret() -> None:
    """As password managers make them."""
    for size in [*range(32, 132)] * 30:
        text = "".join(secrets.choice(PRINTABLE) for _ in range(size))
        assert key_of(text, []).key == text.encode()


def test_a_sentence_is_a_secret() -> None:
    """A shared secret may be any text that is long enough."""
    for text in (
        "correct horse battery staple, and so on",
        SECRET,
        "my-token" * 4,
        "k.9$/Qw!zz{4}[a]<b>&*()_+=-0987654321",
    ):
        assert key_of(text, []).key == text.encode()
