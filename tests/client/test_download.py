"""Delivery over a connection and from a gateway that are not to be trusted: whole and right, or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from bad_gateway import LICENSE, BadGateway, digest

from rochdale.client.download import Delivery, Progress, fetch
from rochdale.client.refusals import MarketError
from rochdale.client.renewal import Renewable
from rochdale.client.tokens import AccessToken

CHUNK = 1000
CONTENT = os.urandom(10_500)


def run(tokens: Renewable[AccessToken], directory: Path | None, **more: object) -> Delivery:
    return fetch(tokens, LICENSE, directory, chunk_bytes=CHUNK, **more)  # type: ignore[arg-type]


def nothing_but(directory: Path, *names: str) -> None:
    assert sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()) == sorted(names)


def test_files_arrive_whole_and_the_progress_ends_at_the_total(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"data/part-00000.parquet": CONTENT, "data/part-00001.parquet": b"x", "empty": b""}
    seen: list[tuple[int, int]] = []
    delivery = run(tokens, tmp_path / "d", progress=lambda done, total: seen.append((done, total)))
    assert (tmp_path / "d/data/part-00000.parquet").read_bytes() == CONTENT
    assert (tmp_path / "d/empty").read_bytes() == b""
    nothing_but(tmp_path / "d", *gateway.files)
    assert (delivery.dataset, delivery.version, delivery.columns) == ("randhie", 1, ("a",))
    assert seen[-1] == (len(CONTENT) + 1, len(CONTENT) + 1)
    assert (tmp_path / "d/empty").stat().st_mode & 0o077 == 0


def test_the_default_directory_says_what_is_in_it(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gateway.files = {"a": CONTENT}
    assert run(tokens, None).directory == Path("randhie-v1")
    assert (tmp_path / "randhie-v1/a").read_bytes() == CONTENT


def test_what_is_there_and_right_is_not_fetched_again(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"a": CONTENT}
    run(tokens, tmp_path)
    before = len(gateway.file_requests())
    run(tokens, tmp_path)
    assert len(gateway.file_requests()) == before


def test_a_file_of_other_contents_is_never_overwritten(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"a": CONTENT}
    (tmp_path / "a").write_text("mine")
    with pytest.raises(MarketError) as refused:
        run(tokens, tmp_path)
    assert refused.value.reason == "FILE_EXISTS"
    assert (tmp_path / "a").read_text() == "mine"


def test_an_interrupted_download_goes_on_where_it_stopped(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"a": CONTENT}

    def stop_half_way(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tokens, tmp_path, workers=1, progress=stop_half_way)
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "a.part").exists()
    before = len(gateway.file_requests())
    run(tokens, tmp_path, workers=1)
    assert (tmp_path / "a").read_bytes() == CONTENT
    nothing_but(tmp_path, "a")
    assert len(gateway.file_requests()) - before < len(CONTENT) / CHUNK - 3


def test_a_part_of_another_version_is_thrown_away(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"a": CONTENT}
    with pytest.raises(KeyboardInterrupt):
        run(tokens, tmp_path, workers=1, progress=_stop_at(3 * CHUNK))
    newer = os.urandom(len(CONTENT))
    gateway.files = {"a": newer}
    run(tokens, tmp_path)
    assert (tmp_path / "a").read_bytes() == newer


def test_a_resume_answered_with_the_whole_file_starts_again_cleanly(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"a": CONTENT}
    with pytest.raises(KeyboardInterrupt):
        run(tokens, tmp_path, workers=1, progress=_stop_at(3 * CHUNK))
    gateway.ignores_ranges = True
    seen: list[int] = []
    run(tokens, tmp_path, progress=lambda done, total: seen.append(done))
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT)
    assert max(seen) <= len(CONTENT)


def test_a_whole_file_that_breaks_off_starts_again_cleanly(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"a": CONTENT}
    gateway.ignores_ranges, gateway.breaks_after_bytes, gateway.breaks = True, 700, 4
    run(tokens, tmp_path)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_broken_connections_cost_no_byte(gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path) -> None:
    gateway.files = {"a": CONTENT}
    gateway.breaks_after_bytes, gateway.breaks, gateway.busy = 333, 20, 3
    run(tokens, tmp_path)
    assert (tmp_path / "a").read_bytes() == CONTENT
    # Each range was taken up where it broke, not from its start.
    assert any(not headers["range"].startswith(("bytes=0-", "bytes=1000-")) for headers in gateway.file_requests())
    assert any(int(headers["range"][6:].split("-")[0]) % CHUNK for headers in gateway.file_requests())


def test_a_connection_that_always_breaks_is_given_up(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"a": CONTENT}
    gateway.busy = 10_000
    with pytest.raises(MarketError) as refused:
        run(tokens, tmp_path)
    assert refused.value.reason == "SERVICE_UNAVAILABLE"


def test_other_bytes_of_the_same_size_never_get_the_name(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"a": CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])}
    gateway.listed = {"a": CONTENT}
    # It even claims to be the announced file, or the ETag alone would tell.
    gateway.etag = f'"{digest(CONTENT)}"'
    with pytest.raises(MarketError) as refused:
        run(tokens, tmp_path)
    assert refused.value.reason == "FILE_CORRUPT"
    nothing_but(tmp_path)


def test_damage_left_by_an_earlier_run_is_fetched_again(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"a": CONTENT}
    with pytest.raises(KeyboardInterrupt):
        run(tokens, tmp_path, workers=1, progress=_stop_at(3 * CHUNK))
    with (tmp_path / "a.part").open("rb+") as part:
        part.write(b"damage")
    run(tokens, tmp_path)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_file_that_changed_since_it_was_listed_is_not_appended(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"a": os.urandom(len(CONTENT))}
    gateway.listed = {"a": CONTENT}
    with pytest.raises(MarketError) as refused:
        run(tokens, tmp_path)
    assert refused.value.reason == "FILE_CHANGED"
    assert not (tmp_path / "a").exists()
    assert all(headers["if-range"] for headers in gateway.file_requests())


def test_a_longer_file_than_announced_is_refused(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files, gateway.listed = {"a": CONTENT + b"more"}, {"a": CONTENT}
    gateway.ignores_ranges, gateway.etag = True, f'"{digest(CONTENT)}"'
    with pytest.raises(MarketError) as refused:
        run(tokens, tmp_path)
    assert refused.value.reason == "FILE_CHANGED"
    assert not (tmp_path / "a").exists()


def test_a_token_refused_in_the_middle_is_renewed_once_for_all(gateway: BadGateway, tmp_path: Path) -> None:
    gateway.files = {"a": CONTENT}
    issued: list[str] = []

    def issue() -> AccessToken:
        issued.append(f"token-{len(issued) + 1}")
        gateway.valid_tokens.add(issued[-1])
        return AccessToken(issued[-1], time.time() + 3600, gateway.url, ())

    def revoke_half_way(done: int, total: int) -> None:
        if done > total // 2:
            gateway.valid_tokens.discard("token-1")

    fetch(Renewable(issue), LICENSE, tmp_path, chunk_bytes=CHUNK, progress=revoke_half_way)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert issued == ["token-1", "token-2"]


def test_a_revoked_license_ends_the_download_with_the_gateways_words(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path
) -> None:
    gateway.files = {"a": CONTENT}
    gateway.valid_tokens = set()
    with pytest.raises(MarketError) as refused:
        run(tokens, tmp_path)
    assert (refused.value.reason, refused.value.message) == ("TOKEN_EXPIRED", "The token ended.")
    assert refused.value.facts == {"at": "x"}


def test_a_token_near_its_end_is_renewed_before(gateway: BadGateway, tmp_path: Path) -> None:
    gateway.files = {"a": CONTENT}
    gateway.valid_tokens = {"token-1", "token-2"}
    now, ends = [0.0], [1000.0, 9000.0]
    tokens = Renewable(
        lambda: AccessToken(f"token-{3 - len(ends)}", ends.pop(0), gateway.url, ()), clock=lambda: now[0]
    )

    def let_time_pass(done: int, total: int) -> None:
        now[0] = 950.0 if done else 0.0

    fetch(tokens, LICENSE, tmp_path, workers=1, chunk_bytes=CHUNK, progress=let_time_pass)
    used = [headers["authorization"] for headers in gateway.file_requests()]
    assert used[0] == "Bearer token-1"
    assert used[-1] == "Bearer token-2"


@pytest.mark.parametrize("name", ["../escaped", "/etc/passwd", "a/../../b", "a\\..\\b", "a\0b", "", "a.part"])
def test_no_name_leads_out_of_the_directory(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path, name: str
) -> None:
    gateway.files = {"good": CONTENT, name: CONTENT}
    with pytest.raises(MarketError) as refused:
        run(tokens, tmp_path / "d")
    assert refused.value.reason == "FILE_NAME_UNSAFE"
    nothing_but(tmp_path)


def test_the_token_goes_to_no_other_host(gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path) -> None:
    gateway.files = {"a": CONTENT}
    gateway.urls = {"a": gateway.url.replace("127.0.0.1", "localhost") + "/steal"}
    with pytest.raises(MarketError) as refused:
        run(tokens, tmp_path)
    assert refused.value.reason == "FILE_URL_FOREIGN"
    assert not gateway.file_requests()


def test_a_listing_that_makes_no_sense_is_refused(
    gateway: BadGateway, tokens: Renewable[AccessToken], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for body in (b"<html>", b"[]", b'{"dataset": "x", "version": 1, "files": [{"path": "a"}]}', b'{"files": 3}'):
        monkeypatch.setattr(gateway, "listing", lambda body=body: body)
        with pytest.raises(MarketError) as refused:
            run(tokens, tmp_path)
        assert refused.value.reason == "LISTING_INVALID"


def _stop_at(bytes_wanted: int) -> Progress:
    def stop(done: int, total: int) -> None:
        if done > bytes_wanted:
            raise KeyboardInterrupt

    return stop
