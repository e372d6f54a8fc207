"""Where a name the server gave may be written: always below the chosen directory, or nowhere. No file is touched here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rochdale.client.refusals import MarketError

# What a download keeps beside a file until it is whole; a file with such a name would be mistaken for it.
PART_SUFFIXES = (".part", ".part.json", ".part.json.new")


def safe_target(directory: Path, name: str) -> Path:
    """The path of `name` below `directory`. Refuses with FILE_NAME_UNSAFE whatever could lead elsewhere.

    That is: an absolute name, "..", ".", an empty segment, a backslash, a colon (a drive or a stream on Windows),
    a control character such as NUL, and a symbolic link on the way that points out of the directory.
    """
    segments = name.split("/")
    unsafe = (
        any(character in "\\:" or ord(character) < 32 or ord(character) == 127 for character in name)
        or any(segment in ("", ".", "..") or len(segment.encode("utf-8", "replace")) > 200 for segment in segments)
        or name.lower().endswith(PART_SUFFIXES)
    )
    target = directory.joinpath(*segments) if not unsafe else directory
    if not unsafe and not target.parent.resolve().is_relative_to(directory.resolve()):
        unsafe = True
    if unsafe:
        raise MarketError(
            "FILE_NAME_UNSAFE", f"The gateway named a file {name!r}; nothing was written.", {"name": name}
        )
    return target


def safe_targets(directory: Path, names: Iterable[str]) -> list[Path]:
    """The paths of all names. Refuses with FILE_NAME_UNSAFE also two that fall together where case does not count."""
    targets: list[Path] = []
    seen: set[str] = set()
    for name in names:
        targets.append(safe_target(directory, name))
        if name.casefold() in seen:
            raise MarketError("FILE_NAME_UNSAFE", f"The gateway named two files {name!r}.", {"name": name})
        seen.add(name.casefold())
    return targets
