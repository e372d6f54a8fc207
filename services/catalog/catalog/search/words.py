"""Turns any text, in any script, into the words the index holds. The same function serves listings and queries."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

LONGEST_WORD = 64

# Letters that fold to plain ones although Unicode does not decompose them.
_UNDECOMPOSED = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h", "ı": "i", "ŋ": "n", "ŧ": "t"}
)
# Only marks that people leave out when typing: Latin, Greek and Cyrillic accents, Hebrew points, Arabic vowels and
# tatweel. Indic vowel signs are marks too, but without them the words would be others. The rest is invisible:
# soft hyphen, joiners, directions, variation selectors.
_LEFT_OUT = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]+"
)
# Scripts written without spaces between words (and Hangul, whose particles stick to its nouns).
_UNSPACED = (
    "\u0e00-\u0eff\u0f40-\u0fbc\u1000-\u109f\u1780-\u17d3\u1950-\u19df\u1a20-\u1aad\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9fe\uaa60-\uaadf\uac00-\ud7a3\uf900-\ufaff\U0001b000-\U0001b16f"
    "\U00020000-\U000323af"
)


def _marks() -> str:
    """Every combining mark, as the inside of a character class: `re` does not count them as word characters."""
    found = [chr(point) for point in range(0x300, 0x20000) if unicodedata.category(chr(point)).startswith("M")]
    return "".join(map(re.escape, found))


_WORD = re.compile(rf"(?P<run>[{_UNSPACED}]+)|(?:(?![{_UNSPACED}])(?:[^\W_]|[{_marks()}]))+")
_ASCII_SPACES = {point: " " for point in range(128) if not chr(point).isalnum()}


class Word(NamedTuple):
    """A word as searched: one term, or for a run of an unspaced script the pairs that must follow one another."""

    terms: tuple[str, ...]
    unspaced: bool


def fold(text: str) -> str:
    """Case, width, accents and invisible characters gone; never raises."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", _LEFT_OUT.sub("", decomposed).casefold()).translate(_UNDECOMPOSED)


def words(text: str, at_most: int) -> list[Word]:
    """The first `at_most` words of a query, each once."""
    found: dict[Word, None] = {}
    # A query needs few words, so a long text is not read to its end.
    for match in _WORD.finditer(fold(text[:4_000])):
        if len(found) == at_most:
            break
        run = match["run"]
        if run is None:
            found[Word((match[0][:LONGEST_WORD],), False)] = None
        else:
            found[Word(_pairs(run[:LONGEST_WORD]), True)] = None
    return list(found)


def indexed(text: str) -> tuple[str, str]:
    """The text as space-separated terms, and the single characters of its unspaced runs likewise."""
    if text.isascii():
        plain = text.lower().translate(_ASCII_SPACES)
        if len(plain) <= LONGEST_WORD:
            return plain, ""
        return " ".join([word[:LONGEST_WORD] for word in plain.split()]), ""
    terms: list[str] = []
    characters: set[str] = set()
    for match in _WORD.finditer(fold(text)):
        run = match["run"]
        if run is None:
            terms.append(match[0][:LONGEST_WORD])
        else:
            # The bar keeps the pairs of two neighboring runs from looking like those of one.
            terms.extend(("|", *_pairs(run)))
            characters.update(run)
    return " ".join(terms), " ".join(characters)


def _pairs(run: str) -> tuple[str, ...]:
    if len(run) == 1:
        return (run,)
    return tuple(run[at : at + 2] for at in range(len(run) - 1))
