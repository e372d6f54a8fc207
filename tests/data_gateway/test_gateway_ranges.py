"""Ranges against a reference that knows nothing of ours: bytes of a real file, chosen by the words of RFC 9110."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from data_gateway.domain.addresses import FileAddress, read_address
from data_gateway.domain.ranges import Unsatisfiable, content_range, matches, requested

ETAG = '"abc"'


def reference(header: str, content: bytes) -> tuple[int, bytes]:
    """Written from the grammar: one valid range is answered, everything else ignored."""
    match = re.fullmatch(r"(?i:bytes)=((?:[ \t]*,)*)[ \t]*(?:(\d+)-(\d*)|-(\d+))[ \t]*((?:,[ \t]*)*)", header, re.ASCII)
    if not match:
        return 200, content
    first, last, suffix = match[2], match[3], match[4]
    if suffix is not None:
        return (206, content[-int(suffix) :]) if int(suffix) else (416, b"")
    if last and int(last) < int(first):
        return 200, content
    piece = content[int(first) : int(last) + 1] if last else content[int(first) :]
    return (206, piece) if piece else (416, b"")


numbers = st.one_of(st.integers(0, 40), st.integers(0, 10**30)).map(str)
ranges = st.one_of(
    st.builds("bytes={}-{}".format, numbers, numbers),
    st.builds("bytes={}-".format, numbers),
    st.builds("bytes=-{}".format, numbers),
    st.builds("Bytes= {}-{} ,".format, numbers, numbers),
    st.builds("bytes={}-{},{}-{}".format, numbers, numbers, numbers, numbers),
    st.from_regex(r"\A[bytes=0-9, \-]{0,14}\Z"),
    st.text(max_size=20),
)


@given(ranges, st.integers(1, 33))
@example("bytes=-0", 5)
@example("bytes=00-02", 5)
@example("bytes=5-", 5)
@example("bytes=0-" + "9" * 5000, 5)
@example("bytes=" + "9" * 5000 + "-", 5)
@example("bytes=١-٢", 5)
def test_every_range_means_what_the_rfc_says(header: str, size: int) -> None:
    content = bytes(range(size))
    if len(header) > 4_000:  # the reference itself would not take so many digits
        expected = (206, content) if header.startswith("bytes=0-") else (416, b"")
    else:
        expected = reference(header, content)
    try:
        span = requested(header, None, ETAG, size)
        assert (span.status, content[span.first : span.last + 1]) == expected
        assert span.length == len(expected[1])
    except Unsatisfiable:
        assert expected == (416, b"")


@given(ranges, st.integers(1, 33), st.text(max_size=10).filter(lambda text: text.strip() != ETAG))
def test_another_file_is_sent_whole(header: str, size: int, if_range: str) -> None:
    assert requested(header, if_range, ETAG, size).length == size


def test_a_list_of_tags_is_searched_whole() -> None:
    assert matches('"x", W/"abc"', ETAG) and matches("*", ETAG) and matches(ETAG, ETAG)
    assert not matches('"abcd"', ETAG) and not matches(None, ETAG) and not matches("abc", ETAG)


@given(st.text(max_size=40))
def test_an_upload_range_is_exact_or_none(text: str) -> None:
    found = content_range(text)
    assert found is None or 0 <= found[0] <= found[1] < found[2]
    assert content_range("bytes 0-9/10") == (0, 9, 10)
    assert content_range("bytes 5-10/10") is None and content_range("bytes */10") is None


@given(st.text(min_size=1, max_size=30), st.text(max_size=80), st.text(max_size=80))
def test_no_address_is_believed_that_was_not_signed(name: str, path: str, signature: str) -> None:
    key = b"k" * 32
    address = FileAddress("randhie", 1, "all", "data/part-00000.parquet", "grants/gra_1", "tok_1", "kid", 100)
    query = dict(pair.split("=") for pair in address.url("", key).replace("%2F", "/").split("?")[1].split("&"))
    assert read_address(address.path, query, key) == address
    assert read_address(path, query, key) is None
    assert read_address(address.path + name, query, key) is None
    assert read_address(address.path, {**query, "X-Amz-Signature": signature}, key) is None
    assert read_address(address.path, {**query, "token": name}, key) is None
    assert read_address(address.path, query, b"x" * 32) is None
