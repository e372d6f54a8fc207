"""Picks from requirements.lock what one workspace member needs, hashes kept. Reads two kinds of file and no network.

A service's image must hold that service alone, but the lock pins the whole workspace. The lock says of each package
who asked for it ("# via"), and a member's pyproject.toml says which other members it stands on; following both gives
the closure. Extras and markers are not weighed here: a package asked for on another condition comes along, so the
answer may hold a package too many and never one too few. Runs on a bare Python, before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Pin:
    """One package of the lock: its lines as they are, without comments, and who asked for it."""

    name: str
    lines: list[str] = field(default_factory=list)
    via: set[str] = field(default_factory=set)


def normal(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """The name in a requirement such as "stripe>=16.1"."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def read_lock(text: str) -> list[Pin]:
    """The lock's pins in order; a package may have several, for different Pythons. Every one has a hash, or ValueError."""
    pins: list[Pin] = []
    pin: Pin | None = None
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line[0].isspace():
            pin = Pin(normal(line.split("==", 1)[0]))
            pins.append(pin)
            pin.lines.append(line)
        elif pin is None:
            raise ValueError(f"requirements.lock begins in the middle of a package: {line.strip()!r}.")
        elif line.strip().startswith("#"):
            pin.via.update(normal(word) for word in line.strip("# ").removeprefix("via").split())
        else:
            pin.lines.append(line)
    for found in pins:
        if not any("--hash=" in line for line in found.lines):
            raise ValueError(f"requirements.lock pins {found.name} without a hash.")
    return pins


def read_members(root: Path) -> dict[str, tuple[Path, list[str]]]:
    """Every workspace member by name: its folder, and the names of the packages it asks for."""
    workspace = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]["members"]
    members = {}
    for pattern in workspace:
        for folder in sorted(root.glob(pattern)):
            if (folder / "pyproject.toml").is_file():
                project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
                asked = [normal(name_of(text)) for text in project.get("dependencies", [])]
                members[normal(project["name"])] = (folder, asked)
    return members


def closure(pins: list[Pin], members: dict[str, tuple[Path, list[str]]], start: str) -> list[Pin]:
    """The pins that the member `start` needs, in order. Raises ValueError for a member or package that is missing."""
    if start not in members:
        raise ValueError(f"There is no workspace member {start}; members are {', '.join(sorted(members))}.")
    needed = {start}
    grew = True
    while grew:
        before = len(needed)
        needed.update(name for member in needed & members.keys() for name in members[member][1])
        needed.update(pin.name for pin in pins if pin.via & needed)
        grew = len(needed) > before
    missing = needed - {pin.name for pin in pins} - members.keys()
    if missing:
        raise ValueError(f"requirements.lock does not pin {', '.join(sorted(missing))}; run make lock.")
    return [pin for pin in pins if pin.name in needed]


def requirements(root: Path, service: str) -> str:
    """What `pip install --require-hashes` needs for the service in services/<service>."""
    pins = read_lock((root / "requirements.lock").read_text())
    chosen = closure(pins, read_members(root), f"rochdale-{service}")
    return "".join(f"{line}\n" for pin in chosen for line in pin.lines)


if __name__ == "__main__":
    try:
        sys.stdout.write(requirements(ROOT, sys.argv[1]))
    except (IndexError, ValueError) as error:
        sys.exit(str(error) if isinstance(error, ValueError) else "Name a service: requirements.py identity")
