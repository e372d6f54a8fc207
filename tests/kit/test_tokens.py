"""Hostile tokens against the one function that decides: none gets in, and nothing but TokenError comes out."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from rochdale_kit.signing import MAX_TOKEN_BYTES, KeySet, SigningKey, TokenError, TokenRules, verify_token

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
KEYS = KeySet.from_jwks(json.dumps({"keys": [KEY.public_jwk()]}))
NOW = int(time.time())
RULES = TokenRules("at+jwt", "https://broker.example", "gateways/valley", 86_400)
HEADER: dict[str, Any] = {"alg": "EdDSA", "typ": "at+jwt", "kid": KEY.key_id}
CLAIMS: dict[str, Any] = {
    "iss": "https://broker.example",
    "aud": "gateways/valley",
    "sub": "organizations/acme",
    "iat": NOW,
    "exp": NOW + 900,
    "jti": "tok_1",
}
# The order of the curve's group: adding it to S gives a second signature for the same message where nobody checks.
ORDER = 2**252 + 27742317777372353535851937790883648493


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def text(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def signed(header: object = None, claims: object = None, key: SigningKey = KEY) -> str:
    """A correctly signed token with whatever inside; bytes are taken as they are."""
    head = encode(text(HEADER if header is None else header))
    body = encode(text(CLAIMS if claims is None else claims))
    return f"{head}.{body}.{encode(key.sign(f'{head}.{body}'.encode()))}"


def head(**changes: Any) -> str:
    return signed(header={name: value for name, value in (HEADER | changes).items() if value is not ...})


def body(**changes: Any) -> str:
    return signed(claims={name: value for name, value in (CLAIMS | changes).items() if value is not ...})


def raw_body(name: str, literal: str) -> str:
    """A claim with a JSON literal no serializer would write."""
    rest = json.dumps({key: value for key, value in CLAIMS.items() if key != name})
    return signed(claims=f'{rest[:-1]}, "{name}": {literal}}}'.encode())


def hs256(secret: bytes) -> str:
    """The public key used as if it were a shared secret."""
    start = f"{encode(text(HEADER | {'alg': 'HS256'}))}.{encode(text(CLAIMS))}"
    return f"{start}.{encode(hmac.digest(secret, start.encode(), hashlib.sha256))}"


def unsigned(alg: str) -> str:
    return f"{encode(text(HEADER | {'alg': alg}))}.{encode(text(CLAIMS))}."


def malleated() -> str:
    start, _, signature = signed().rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    return f"{start}.{encode(raw[:32] + (int.from_bytes(raw[32:], 'little') + ORDER).to_bytes(32, 'little'))}"


def non_canonical() -> str:
    """The same bytes, another spelling: the last character of 64 bytes has four bits nobody reads."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = signed()
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


PUBLIC = KEY.private.public_key()
PEM = PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DEEP = b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"

HOSTILE: dict[str, Callable[[], str]] = {
    "alg none": lambda: unsigned("none"),
    "alg nOnE": lambda: unsigned("nOnE"),
    "HS256 with the public PEM": lambda: hs256(PEM),
    "HS256 with the raw public key": lambda: hs256(PUBLIC.public_bytes_raw()),
    "alg a list": lambda: head(alg=["EdDSA"]),
    "alg missing": lambda: head(alg=...),
    "embedded jwk": lambda: signed(HEADER | {"jwk": OTHER.public_jwk(), "kid": OTHER.key_id}, key=OTHER),
    "jku": lambda: head(jku="https://evil.example/keys"),
    "x5u": lambda: head(x5u="https://evil.example/cert"),
    "unknown crit": lambda: head(crit=["dlg"], dlg="x"),
    "b64 false": lambda: head(b64=False, crit=["b64"]),
    "kid unknown": lambda: signed(HEADER | {"kid": OTHER.key_id}, key=OTHER),
    "kid missing": lambda: head(kid=...),
    "kid an int": lambda: head(kid=1),
    "kid a list": lambda: head(kid=[KEY.key_id]),
    "kid a path": lambda: head(kid="../../etc/passwd"),
    "another key's signature": lambda: signed(key=OTHER),
    "malleated S+L": malleated,
    "typ JWT": lambda: head(typ="JWT"),
    "typ missing": lambda: head(typ=...),
    "typ session": lambda: head(typ="session+jwt"),
    "fourth segment": lambda: signed() + ".e30",
    "two segments": lambda: signed().rpartition(".")[0],
    "whitespace": lambda: signed() + "\n",
    "whitespace inside": lambda: signed().replace(".", ". ", 1),
    "non-canonical base64": non_canonical,
    "padded base64": lambda: signed() + "==",
    "standard alphabet": lambda: signed().rpartition(".")[0] + "." + "+/" * 43,
    "letters that are none of base64's": lambda: signed().replace(".", ".é", 1),
    "payload a list": lambda: signed(claims=[CLAIMS]),
    "payload no JSON": lambda: signed(claims=b"\xff\xfe"),
    "header a string": lambda: signed(header="EdDSA"),
    "empty": lambda: "",
    "dots": lambda: "..",
    "expired": lambda: body(iat=NOW - 1000, exp=NOW - 1),
    "expired this second": lambda: body(iat=NOW - 1000, exp=NOW),
    "issued in the future": lambda: body(iat=NOW + 60),
    "nbf in the future": lambda: body(nbf=NOW + 60),
    "nbf a string": lambda: body(nbf="0"),
    "exp missing": lambda: body(exp=...),
    "exp 1e300": lambda: raw_body("exp", "1e300"),
    "exp 1e999": lambda: raw_body("exp", "1e999"),
    "exp NaN": lambda: raw_body("exp", "NaN"),
    "exp Infinity": lambda: raw_body("exp", "Infinity"),
    "exp true": lambda: body(exp=True),
    "exp a string": lambda: body(exp=str(NOW + 900)),
    "exp null": lambda: body(exp=None),
    "exp of 5,000 digits": lambda: raw_body("exp", "9" * 5_000),
    "iat missing": lambda: body(iat=...),
    "iat after exp": lambda: body(iat=NOW + 3, exp=NOW + 2),
    "life too long": lambda: body(exp=NOW + 86_401),
    "other issuer": lambda: body(iss="https://evil.example"),
    "issuer missing": lambda: body(iss=...),
    "other audience": lambda: body(aud="gateways/hill"),
    "audience missing": lambda: body(aud=...),
    "audience a list of ours": lambda: body(aud=["gateways/valley"]),
    "audience a list of two": lambda: body(aud=["gateways/valley", "gateways/hill"]),
    "audience with more behind": lambda: body(aud="gateways/valley\n"),
    "jti missing": lambda: body(jti=...),
    "jti an int": lambda: body(jti=7),
    "sub missing": lambda: body(sub=...),
    "aud twice": lambda: signed(claims=json.dumps(CLAIMS).encode()[:-1] + b', "aud": "gateways/valley"}'),
    "alg twice": lambda: signed(header=json.dumps(HEADER).encode()[:-1] + b', "alg": "EdDSA"}'),
    "a name twice, deep inside": lambda: signed(claims=json.dumps(CLAIMS).encode()[:-1] + b', "x": {"a": 1, "a": 2}}'),
    "JSON 20,000 deep": lambda: signed(claims=DEEP),
    "JSON 300 deep": lambda: body(deep=json.loads("[" * 300 + "]" * 300)),
    "header 20,000 deep": lambda: signed(header=DEEP),
    "payload of 2 MB": lambda: body(pad="x" * 2_000_000),
    "payload just too large": lambda: body(pad="x" * 4_096),
    "a lone surrogate": lambda: signed(claims=b'{"iss": "\\ud800"}') + "\ud800",
}


def genuine(token: str, keys: KeySet = KEYS) -> dict[str, Any]:
    return verify_token(token, keys, RULES, NOW)


def test_the_token_all_others_are_bent_from_is_genuine() -> None:
    assert genuine(signed()) == CLAIMS
    assert genuine(KEY.sign_token("at+jwt", CLAIMS)) == CLAIMS
    assert genuine(head(alg="Ed25519")) == CLAIMS


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_token_is_refused(name: str) -> None:
    with pytest.raises(TokenError):
        genuine(HOSTILE[name]())


def test_without_keys_nothing_is_genuine() -> None:
    with pytest.raises(TokenError):
        genuine(signed(), KeySet({}))
    strange = {"keys": [{"kty": "RSA", "kid": "a"}, {"kty": "OKP", "crv": "X25519", "kid": "b", "x": "AA"}]}
    assert len(KeySet.from_jwks(json.dumps(strange))) == 0


@given(position=st.integers(0, len(signed()) - 1), letter=st.characters(max_codepoint=0x2FF))
def test_one_changed_character_is_one_too_many(position: int, letter: str) -> None:
    token = signed()
    bent = token[:position] + letter + token[position + 1 :]
    if bent != token:
        with pytest.raises(TokenError):
            genuine(bent)


@given(
    st.one_of(
        st.text(max_size=200), st.lists(st.binary(max_size=60), max_size=5).map(lambda p: ".".join(map(encode, p)))
    )
)
def test_noise_is_refused_and_nothing_else_happens(token: str) -> None:
    with pytest.raises(TokenError):
        genuine(token)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    claims=st.dictionaries(st.sampled_from(sorted(CLAIMS)), JSON),
    name=st.sampled_from(["alg", "typ", "kid"]),
    value=JSON,
)
def test_signed_nonsense_is_refused_or_still_keeps_every_rule(claims: dict[str, Any], name: str, value: object) -> None:
    for token in (body(**claims), head(**{name: value})):
        try:
            found = genuine(token)
        except TokenError:
            continue
        assert found["aud"] == RULES.audience and found["iss"] == RULES.issuer
        assert 0 < found["exp"] - found["iat"] <= RULES.max_life_seconds and found["exp"] > NOW
        assert type(found["jti"]) is str and len(token) <= MAX_TOKEN_BYTES
