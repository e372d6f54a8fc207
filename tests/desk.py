"""Somewhere a command is typed: a home, a market.json, keys; and the services that answer it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from house import House

from rochdale.client.keys import write_key_file
from rochdale.client.market import SERVICES


@dataclass
class Desk:
    """Keys are named by their file: key="valley" is keys/valley.key."""

    home: Path

    @classmethod
    def at(cls, house: House, home: Path, **addresses: str) -> Desk:
        """In front of the services of a house; addresses: of others, by name. The rest is unreachable."""
        services = dict.fromkeys(SERVICES, "127.0.0.1:9")
        services |= {name: one.grpc_address for name, one in house.services.items() if name in services} | addresses
        (home / "market.json").write_text(json.dumps({"version": 1, "services": services}))
        if not (home / "keys" / "operator.key").exists():
            write_key_file(home / "keys" / "operator.key", house.operator_secret)
        return cls(home)

    def key(self, name: str) -> Path:
        return self.home / "keys" / f"{name}.key"

    async def run(self, *arguments: str, key: str | None = None, code: int = 0, stdin: str = "") -> Any:
        """The JSON document a command prints, on standard output or, for a refusal, on standard error."""
        keys = ("--key-file", str(self.home / "keys" / f"{key}.key")) if key else ()
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "NO_COLOR": "1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from rochdale.client.cli import main; main()",
            *("--json", "--market", str(self.home / "market.json")),
            *arguments,
            *keys,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin.encode())
        assert process.returncode == code, (arguments, out.decode(), err.decode())
        return json.loads(out or err)

    async def until(self, found: Callable[[Any], bool], *arguments: str, key: str | None = None) -> Any:
        """What a command prints once it is as it should be."""
        ends = time.monotonic() + 30
        while not found(answer := await self.run(*arguments, key=key)):
            assert time.monotonic() < ends, answer
            await asyncio.sleep(0.2)
        return answer

    async def cooperative(self, name: str, *more: str) -> Any:
        """A verified organization that founded its cooperative; its key and its signing key are in keys/."""
        await self.run(
            "organization", "register", name, "--kind", "cooperative", "--name", name, "--email", "a@b.example"
        )
        await self.run("organization", "verify", name, key="operator")
        return await self.run("cooperative", "create", "--name", name, *more, key=name)
