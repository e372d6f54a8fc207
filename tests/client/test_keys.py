"""API keys on paper and on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rochdale.client.keys import key_hash, make_secret, parse_secret, read_key_file, secret_for, write_key_file
from rochdale.client.refusals import MarketError


def test_a_secret_has_the_shape_the_market_knows() -> None:
    secret = make_secret()
    assert len(secret) == len("rochdale_") + 43 + 1 + 8
    assert parse_secret(f"  {secret}\n") == secret
    assert key_hash(secret) == hashlib.sha256(secret.encode()).digest()
    assert make_secret() != secret


@pytest.mark.parametrize("wrong", ["", "rochdale_short", "sk_live_1", "rochdale_" + "a" * 43 + "_00000000", "ä" * 61])
def test_what_is_no_key_is_refused_without_repeating_it(wrong: str) -> None:
    with pytest.raises(MarketError) as refused:
        parse_secret(wrong)
    assert refused.value.reason == "KEY_MALFORMED"
    assert not wrong or wrong not in str(refused.value)


def test_a_typing_error_is_noticed() -> None:
    secret = make_secret()
    other = "A" if secret[20] != "A" else "B"
    with pytest.raises(MarketError):
        parse_secret(secret[:20] + other + secret[21:])


def test_only_its_owner_reads_a_key_file(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "lab.key"
    secret = make_secret()
    write_key_file(path, secret)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert read_key_file(path) == secret


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "lab.key"
    first = secret_for(path)
    assert secret_for(path) == first
    with pytest.raises(MarketError) as refused:
        write_key_file(path, make_secret())
    assert refused.value.reason == "KEY_FILE_EXISTS"
    assert read_key_file(path) == first


def test_a_missing_or_unreadable_key_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MarketError) as refused:
        read_key_file(tmp_path / "none.key")
    assert refused.value.reason == "KEY_FILE_NOT_FOUND"
    with pytest.raises(MarketError) as refused:
        read_key_file(tmp_path)
    assert refused.value.reason == "KEY_FILE_UNREADABLE"
    (tmp_path / "bytes.key").write_bytes(b"\xff\xfe")
    with pytest.raises(MarketError) as refused:
        read_key_file(tmp_path / "bytes.key")
    assert refused.value.reason == "KEY_FILE_UNREADABLE"
