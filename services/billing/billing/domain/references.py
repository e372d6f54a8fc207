"""Payment references: what a buyer writes on a bank transfer, and how it is found again in what a bank passes on."""

from __future__ import annotations

import re

# No I, L, O, U, and no 0: thirty-one signs that survive a telephone. A prime number of them, so that the check sign
# finds every single wrong sign and every two that changed places.
_SIGNS = "123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 8
REFERENCES = len(_SIGNS) ** _LENGTH
_FOUND = re.compile(f"(?=RD([{_SIGNS}]{{{_LENGTH}}})([{_SIGNS}]))")


def payment_reference(number: int) -> str:
    """A number below REFERENCES as people write it on a transfer, such as RD-7K3M-9Q2P-5."""
    signs = []
    for _ in range(_LENGTH):
        number, index = divmod(number, len(_SIGNS))
        signs.append(_SIGNS[index])
    return _written("".join(signs))


def references_in(text: str) -> list[str]:
    """Every reference in a free text whose check sign is right, however it is spaced and in whatever case, once each.

    Banks cut lines and drop hyphens, so all that is no letter or digit is passed over. Words around it may happen to
    look like a reference; one in thirty-one of these has the right check sign, and then there is no such order.
    """
    packed = "".join(sign for sign in text.upper() if sign.isascii() and sign.isalnum())
    found = (match[1] for match in _FOUND.finditer(packed) if _check(match[1]) == match[2])
    return list(dict.fromkeys(map(_written, found)))


def _check(signs: str) -> str:
    total = sum(place * _SIGNS.index(sign) for place, sign in enumerate(signs, start=2))
    return _SIGNS[-total % len(_SIGNS)]


def _written(signs: str) -> str:
    return f"RD-{signs[:4]}-{signs[4:]}-{_check(signs)}"
