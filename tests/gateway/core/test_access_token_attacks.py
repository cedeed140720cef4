"""Attacks on access tokens. Every one of them ends in the same refusal, and none in another error."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import string
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, serialize_compact

from gateway.core.access_token import (
    MAX_TOKEN_LENGTH,
    Claims,
    key_id,
    looks_like,
    private_key,
    public_jwk,
    public_key,
    verify,
)
from gateway.core.tokens import new_api_token
from gateway.errors import AuthFailed
from tests.support.forged_token import (
    AUDIENCE,
    ISSUER,
    NOW,
    PAYLOAD,
    assembled,
    ed25519,
    encoded,
    forged,
    header_of,
    signed,
)

KEY, FOREIGN = private_key(b"\x01" * 32), private_key(b"\x02" * 32)
KID = key_id(KEY)
KEYS = {KID: public_key(json.dumps(public_jwk(KEY)))}
HONEST = forged(KEY)
HEAD, SIGNATURE = HONEST.rsplit(".", 1)


def check(token: str) -> Claims:
    return verify(token, KEYS, issuer=ISSUER, audience=AUDIENCE, now_ms=NOW)


def refused(token: str) -> None:
    with pytest.raises(AuthFailed, match=r"^The token is not valid\.$"):
        check(token)


def test_the_honest_token_is_good() -> None:
    """Whatever the other tests change about it is what makes them fail."""
    assert check(HONEST).user == "u_ada"
    assert check(assembled(header_of(KEY), PAYLOAD, ed25519(KEY))) == check(HONEST)


# --- the algorithm ---


@pytest.mark.parametrize("name", ["none", "None", "nOnE", "NONE", ""])
@pytest.mark.parametrize("signature", ["", "A" * 86, SIGNATURE], ids=["absent", "zero", "another's"])
def test_no_algorithm(name: str, signature: str) -> None:
    refused(assembled(header_of(KEY, alg=name), PAYLOAD, lambda _: b"").rpartition(".")[0] + "." + signature)


def public_forms() -> dict[str, bytes]:
    public = KEYS[KID].public_key
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    jwk = json.dumps(public_jwk(KEY)).encode()
    return {
        "pem": pem,
        "pem without its end": pem.strip(),
        "der": der,
        "raw": raw,
        "jwk": jwk,
        "x": encoded(raw).encode(),
    }


@pytest.mark.parametrize("form", list(public_forms()))
@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512"])
def test_hmac_with_the_public_key(form: str, name: str) -> None:
    secret, digest = public_forms()[form], f"sha{name[2:]}"
    refused(assembled(header_of(KEY, alg=name), PAYLOAD, lambda head: hmac.digest(secret, head, digest)))


@pytest.mark.parametrize("form", list(public_forms()))
def test_hmac_with_the_public_key_under_the_right_algorithms_name(form: str) -> None:
    """Its length fits: two digests together."""
    secret = public_forms()[form]
    refused(assembled(header_of(KEY), PAYLOAD, lambda head: hmac.digest(secret, head, hashlib.sha512)))


@pytest.mark.parametrize(
    "name", ["Ed25519", "eddsa", "EDDSA", "EdDSA ", "EdDSA\0", "Ed448", "ES256", "RS256", "PS256", "ES256K", "HS256"]
)
def test_another_name_for_the_same_signature(name: str) -> None:
    refused(forged(KEY, header={"alg": name}))


@pytest.mark.parametrize("name", [None, 1, True, ["EdDSA"], {"EdDSA": 1}])
def test_an_algorithm_that_is_no_text(name: Any) -> None:
    refused(forged(KEY, header={"alg": name}))


OTHER_KEYS: dict[str, Any] = {
    "RS256": RSAKey.import_key(rsa.generate_private_key(65537, 2048)),
    "PS256": RSAKey.import_key(rsa.generate_private_key(65537, 2048)),
    "ES256": ECKey.import_key(ec.generate_private_key(ec.SECP256R1())),
    "Ed448": OKPKey.import_key(ed448.Ed448PrivateKey.generate()),
}


@pytest.mark.parametrize("name", list(OTHER_KEYS))
def test_a_good_signature_by_another_algorithm(name: str) -> None:
    header = header_of(KEY, alg=name)
    registry = JWSRegistry(algorithms=[name])
    refused(serialize_compact(header, json.dumps(dict(PAYLOAD)), OTHER_KEYS[name], registry=registry))


# --- the key ---


@pytest.mark.parametrize(
    "kid",
    [
        "",
        "k_unknown",
        KID.upper(),
        KID + " ",
        KID + "\0",
        "\0" + KID,
        "../../../../dev/null",
        "file:///dev/null",
        "' OR '1'='1",
        "x'; DROP TABLE signing_keys; --",
        "\0",
        "\u202e" + KID,
        "k" * 10_240,
        "\ud800",
    ],
    ids=lambda kid: repr(kid[:12]),
)
@pytest.mark.parametrize("key", [KEY, FOREIGN], ids=["our signature", "foreign signature"])
def test_a_foreign_kid(kid: str, key: OKPKey) -> None:
    refused(forged(key, header={"kid": kid}))


@pytest.mark.parametrize("kid", [None, 0, True, [KID], {KID: KID}, 1.5])
def test_a_kid_that_is_no_text(kid: Any) -> None:
    refused(forged(KEY, header={"kid": kid}))


def test_no_kid() -> None:
    refused(assembled({"alg": "EdDSA", "typ": "at+jwt"}, PAYLOAD, ed25519(KEY)))


def test_another_gateways_key_with_our_kid() -> None:
    refused(forged(FOREIGN, header={"kid": KID}))


def test_another_gateways_token() -> None:
    refused(forged(FOREIGN))


def test_a_key_that_is_not_in_force_any_more() -> None:
    with pytest.raises(AuthFailed):
        verify(HONEST, {}, issuer=ISSUER, audience=AUDIENCE, now_ms=NOW)


# --- the header ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jku", "https://evil.example.org/jwks.json"),
        ("x5u", "https://evil.example.org/cert.pem"),
        ("jwk", public_jwk(FOREIGN)),
        ("jwk", public_jwk(KEY)),
        ("x5c", ["MIIB"]),
        ("x5t", "AAAA"),
        ("crit", ["exp"]),
        ("crit", []),
        ("b64", False),
        ("cty", "JWT"),
        ("zip", "DEF"),
        ("enc", "A128GCM"),
        ("exp", 1),
        ("", ""),
    ],
)
@pytest.mark.parametrize("key", [KEY, FOREIGN], ids=["our signature", "foreign signature"])
def test_a_header_that_says_more(name: str, value: Any, key: OKPKey) -> None:
    refused(forged(key, header={"kid": KID, name: value}))


@pytest.mark.parametrize(
    "typ", ["JWT", "jwt", "at+JWT", "AT+JWT", "application/at+jwt", "", "id_token", "refresh+jwt", None, 1, ["at+jwt"]]
)
def test_a_token_of_another_type(typ: Any) -> None:
    refused(forged(KEY, header={"typ": typ}))


def test_a_token_without_a_type() -> None:
    refused(assembled({"alg": "EdDSA", "kid": KID}, PAYLOAD, ed25519(KEY)))


# --- the claims ---


@pytest.mark.parametrize("name", list(PAYLOAD))
def test_a_claim_is_missing(name: str) -> None:
    refused(forged(KEY, without=name))


@pytest.mark.parametrize("name", list(PAYLOAD))
@pytest.mark.parametrize("value", [None, "", [], {}, True, False, 1.5, ["u_ada"], {"u_ada": 1}], ids=repr)
def test_a_claim_of_another_type(name: str, value: Any) -> None:
    refused(forged(KEY, **{name: value}))


@pytest.mark.parametrize("name", ["sub", "sid", "jti", "client_id"])
def test_a_text_with_a_lone_surrogate(name: str) -> None:
    claims: dict[str, Any] = {name: "u_\ud800"}
    refused(forged(KEY, **claims))


@pytest.mark.parametrize("issuer", ["https://evil.example.org", ISSUER + "/", ISSUER.upper(), [ISSUER], " " + ISSUER])
def test_another_issuer(issuer: Any) -> None:
    refused(forged(KEY, iss=issuer))


@pytest.mark.parametrize("audience", ["other", "Gateway", "gateway ", "", "gatewa"])
def test_another_audience(audience: str) -> None:
    refused(forged(KEY, aud=audience))


@pytest.mark.parametrize(
    "audience", [[AUDIENCE], [AUDIENCE, "other"], ["other"], [], [[AUDIENCE]], {AUDIENCE: 1}, [AUDIENCE, AUDIENCE]]
)
def test_an_audience_that_is_an_array(audience: Any) -> None:
    refused(forged(KEY, aud=audience))


END = NOW // 1000 + 900


@pytest.mark.parametrize(
    "exp",
    [
        float(END),
        END + 0.5,
        str(END),
        True,
        None,
        [END],
        {"exp": END},
        -1,
        -(2**63),
        0,
        253_402_300_800,
        2**53,
        2**63,
        2**64,
        10**400,
        NOW,  # milliseconds where seconds belong
        NOW // 1000,
        NOW // 1000 - 1,
    ],
    ids=lambda exp: repr(exp)[:20],
)
def test_an_end_that_is_none(exp: Any) -> None:
    refused(forged(KEY, exp=exp))


@pytest.mark.parametrize(
    "number",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "1764000900e0",
        "1764000900.0",
        "0x7fffffff",
        "01764000900",
        "1_764_000_900",
    ],
)
def test_an_end_that_json_can_hardly_hold(number: str) -> None:
    payload = json.dumps(dict(PAYLOAD)).replace(str(END), number)
    assert number in payload
    refused(assembled(header_of(KEY), payload, ed25519(KEY)))


def test_a_number_that_is_none_in_a_claim_that_nobody_reads() -> None:
    refused(forged(KEY, weight=float("nan")))


def test_an_end_of_thousands_of_digits() -> None:
    refused(forged(KEY, exp=json.loads("9" * 2500)))


@pytest.mark.parametrize("iat", [float(NOW // 1000), str(NOW // 1000), True, None, -1, 2**63, NOW, NOW // 1000 + 61])
def test_an_issue_that_never_was(iat: Any) -> None:
    refused(forged(KEY, iat=iat))


@pytest.mark.parametrize("nbf", [NOW // 1000 + 61, "now", True])
def test_a_token_for_later(nbf: Any) -> None:
    refused(forged(KEY, nbf=nbf))


# --- the text ---


def test_base64_with_other_trailing_bits() -> None:
    """The last character of 64 bytes carries four bits that mean nothing: three more spellings for each signature."""
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    place = alphabet.index(SIGNATURE[-1])
    data = base64.urlsafe_b64decode(SIGNATURE + "==")
    twins = [SIGNATURE[:-1] + letter for letter in alphabet if letter != SIGNATURE[-1]]
    same = [twin for twin in twins if base64.urlsafe_b64decode(twin + "==") == data]
    assert len(same) == 15, place
    for twin in same:
        refused(f"{HEAD}.{twin}")


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    "added", ["=", "==", " ", "\n", "\r\n", "\t", "\0", ".", "%", "A", "AA", "\u00e9", "\u0661", "\ud800"], ids=repr
)
def test_something_added_to_a_part(number: int, added: str) -> None:
    parts = HONEST.split(".")
    for changed in (parts[number] + added, added + parts[number], parts[number][:8] + added + parts[number][8:]):
        refused(".".join([*parts[:number], changed, *parts[number + 1 :]]))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("added", ["=", "==", " ", "\n", "A"])
def test_a_part_that_was_signed_with_something_added(number: int, added: str) -> None:
    parts = HEAD.split(".")
    parts[number] += added
    refused(signed(".".join(parts), ed25519(KEY)))


def test_the_standard_alphabet() -> None:
    for entropy in range(200):
        token = forged(KEY, jti=f"at_{entropy}")
        head, signature = token.rsplit(".", 1)
        if set(signature) >= {"-", "_"}:
            break
    assert check(token)
    for old, new in (("-", "+"), ("_", "/")):
        refused(f"{head}.{signature.replace(old, new)}")


def test_the_standard_alphabet_in_what_is_signed() -> None:
    payload = json.dumps(dict(PAYLOAD) | {"note": "\u00fb\u00ff\u00fe"}, ensure_ascii=False)
    plain = base64.b64encode(payload.encode()).decode().rstrip("=")
    assert set(plain) & {"+", "/"}
    refused(signed(f"{HEAD.partition('.')[0]}.{plain}", ed25519(KEY)))


@pytest.mark.parametrize("name", ["alg", "typ", "kid"])
@pytest.mark.parametrize("last", [True, False], ids=["the honest one last", "the honest one first"])
def test_a_name_twice_in_the_header(name: str, last: bool) -> None:
    honest = json.dumps(header_of(KEY))
    bad = f'"{name}":"x"'
    header = f"{{{bad},{honest[1:]}" if last else f"{honest[:-1]},{bad}}}"
    refused(assembled(header, PAYLOAD, ed25519(KEY)))


@pytest.mark.parametrize("name", list(PAYLOAD))
@pytest.mark.parametrize("last", [True, False], ids=["the honest one last", "the honest one first"])
def test_a_name_twice_in_the_payload(name: str, last: bool) -> None:
    honest = json.dumps(dict(PAYLOAD))
    again = json.dumps({name: PAYLOAD[name]})[1:-1]
    payload = f"{{{again},{honest[1:]}" if last else f"{honest[:-1]},{again}}}"
    refused(assembled(header_of(KEY), payload, ed25519(KEY)))


def test_a_name_twice_deep_inside() -> None:
    payload = json.dumps(dict(PAYLOAD))[:-1] + ',"act":{"sub":"a","sub":"b"}}'
    refused(assembled(header_of(KEY), payload, ed25519(KEY)))


def test_a_name_twice_by_an_escape() -> None:
    payload = json.dumps(dict(PAYLOAD))[:-1] + ',"\\u0073ub":"u_grace"}'
    refused(assembled(header_of(KEY), payload, ed25519(KEY)))


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "1", '"u_ada"', "{}", "{", "\ufeff{}", "{} {}", '{"a":' * 500, "[" * 2000]
)
def test_a_part_that_is_no_object(text: str) -> None:
    refused(assembled(text, PAYLOAD, ed25519(KEY)))
    refused(assembled(header_of(KEY), text, ed25519(KEY)))


def test_objects_nested_as_deep_as_they_fit() -> None:
    deep = '{"a":' * 250 + "1" + "}" * 250
    assert check(assembled(header_of(KEY), json.dumps(dict(PAYLOAD))[:-1] + f',"deep":{deep}}}', ed25519(KEY)))
    deeper = "[" * 1300 + "]" * 1300
    token = assembled(header_of(KEY), json.dumps(dict(PAYLOAD))[:-1] + f',"deep":{deeper}}}', ed25519(KEY))
    assert len(token) <= MAX_TOKEN_LENGTH
    refused(token)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1"])
def test_another_encoding(encoding: str) -> None:
    header, payload = json.dumps(header_of(KEY)), json.dumps(dict(PAYLOAD, name="é"), ensure_ascii=False)
    for parts in ((header.encode(encoding), payload.encode()), (header.encode(), payload.encode(encoding))):
        if parts != (header.encode(), payload.encode()):
            refused(signed(".".join(map(encoded, parts)), ed25519(KEY)))


class Unread(str):
    """A text that nobody may look at."""

    __slots__ = ()

    def _looked_at(self, *arguments: object) -> Any:
        raise AssertionError("it was worked on")

    encode = split = partition = rpartition = __iter__ = __getitem__ = _looked_at  # type: ignore[assignment]


def test_a_megabyte_is_refused_for_its_length_alone() -> None:
    for token in ("A" * 1_000_000, forged(KEY, sub="u" * 1_000_000), HONEST + "A" * 1_000_000):
        refused(Unread(token))
        assert not looks_like(Unread(token))


def test_the_longest_token_and_one_more() -> None:
    room = MAX_TOKEN_LENGTH - len(HONEST)
    tokens = [forged(KEY, note="n" * size) for size in range(room * 3 // 4 - 40, room * 3 // 4)]
    lengths = [len(token) for token in tokens]
    # Lengths go up by one and by two.
    assert {MAX_TOKEN_LENGTH - 1, MAX_TOKEN_LENGTH} & set(lengths)
    assert {MAX_TOKEN_LENGTH + 1, MAX_TOKEN_LENGTH + 2} & set(lengths)
    for token in tokens:
        if len(token) <= MAX_TOKEN_LENGTH:
            assert check(token)
        else:
            refused(token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "eyJ.eyJ." + "A" * 86,
        HEAD,
        HEAD + ".",
        f"{HEAD}.{SIGNATURE}.{SIGNATURE}",
        f".{HEAD}.{SIGNATURE}",
        f"{HEAD}..{SIGNATURE}",
        f"{HEAD.partition('.')[0]}..{SIGNATURE}",
        f"Bearer {HONEST}",
        HONEST.lower(),
        HONEST[::-1],
        json.dumps({"payload": "", "signatures": []}),
        ".".join([*HEAD.split("."), "AAAA", "AAAA", SIGNATURE]),
    ],
)
def test_what_is_no_compact_signature(token: str) -> None:
    refused(token)


def test_another_credential_in_its_place() -> None:
    refused(new_api_token(bytes(32)))
    refused("gr_" + new_api_token(bytes(32))[3:])
    refused("gt_" + HONEST)
    refused("gt_eyJpZCI6MX0.aR4AAA.tLzMvJxH1L6Zg4hV0Q2c1j2sWc5iN5kq8jXn0k3l9bA")


# --- anything ---


@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    refused(text)


@given(st.text(string.ascii_letters + string.digits + "-_", max_size=120), st.text(string.ascii_letters, max_size=120))
def test_any_text_of_the_right_form(header: str, payload: str) -> None:
    refused(f"eyJ{header}.eyJ{payload}.{SIGNATURE}")


@given(st.integers(min_value=0), st.sampled_from(string.ascii_letters + string.digits + "-_=.+/ \n\0é"))
def test_one_character_changed(place: int, character: str) -> None:
    place %= len(HONEST)
    changed = HONEST[:place] + character + HONEST[place + 1 :]
    if changed != HONEST:
        refused(changed)


@given(st.integers(min_value=0), st.integers(min_value=0))
def test_a_piece_cut_out(start: int, length: int) -> None:
    start %= len(HONEST)
    length = 1 + length % (len(HONEST) - start)
    refused(HONEST[:start] + HONEST[start + length :])


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["EdDSA", "at+jwt", KID]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
members = st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk"]) | st.text(max_size=5), values)


@given(members)
def test_any_header(header: dict[str, Any]) -> None:
    if header != header_of(KEY):
        refused(assembled(header, PAYLOAD, ed25519(KEY)))


@given(st.dictionaries(st.sampled_from(list(PAYLOAD)), values, min_size=1))
def test_any_claims(claims: dict[str, Any]) -> None:
    """Signed with our own key: what comes through is an honest claim of the right type."""
    token = forged(KEY, **claims)
    with contextlib.suppress(AuthFailed):
        found = check(token)
        assert all(isinstance(text, str) and text for text in (found.user, found.session, found.id, found.client))
        assert type(found.expires_at) is type(found.issued_at) is int
        assert found.expires_at > NOW


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_signed_by_our_own_key(header: bytes, payload: bytes) -> None:
    refused(signed(f"{encoded(header)}.{encoded(payload)}", ed25519(KEY)))
    refused(signed(f"{encoded(json.dumps(header_of(KEY)).encode())}.{encoded(b'{' + payload)}", ed25519(KEY)))


def test_random_signatures() -> None:
    for _ in range(50):
        refused(f"{HEAD}.{encoded(os.urandom(64))}")
