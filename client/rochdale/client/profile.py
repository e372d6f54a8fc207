"""Delta Sharing profile files, version 1, by which the unmodified delta-sharing client finds a gateway."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path


def write_profile(path: Path, gateway_url: str, token: str, expires_at: float) -> None:
    """Writes a profile only its owner can read, replacing an earlier one whole. `expires_at` is seconds since the epoch."""
    profile = {
        "shareCredentialsVersion": 1,
        "endpoint": f"{gateway_url.rstrip('/')}/delta-sharing/",
        "bearerToken": token,
        "expirationTime": datetime.fromtimestamp(expires_at, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
    }
    # mkstemp makes the file 0600, and the rename keeps it so even where an earlier profile was readable by others.
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(profile, file, indent=2)
            file.write("\n")
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def table_url(profile: Path, dataset: str) -> str:
    """What the client is given to load "cooperatives/{cooperative}/datasets/{dataset}"."""
    _, cooperative, _, name = dataset.split("/")
    return f"{profile}#{cooperative}.data.{name}"
