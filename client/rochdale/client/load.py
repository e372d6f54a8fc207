"""A license's data as a DataFrame through the real delta-sharing client; pandas and that client are imported only here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rochdale.client.profile import table_url, write_profile
from rochdale.client.refusals import MarketError, from_http
from rochdale.client.tokens import license_tokens
from rochdale.client.transport import fit_for_secrets

if TYPE_CHECKING:
    import pandas

    from rochdale.client.market import Market


def load(
    license: str,
    *,
    market: Market | None = None,
    dataset: str = "",
    version: int = 0,
    columns: Sequence[str] = (),
    limit: int | None = None,
) -> pandas.DataFrame:
    """Loads a table; `dataset` is needed only if the license opens several, `limit` is the most rows wanted.

    Without a market, it is the one Market.open() finds. Raises MarketError, among others with DELTA_SHARING_MISSING,
    DATASET_NOT_NAMED, and the reasons of IssueToken and of the gateway.
    """
    try:
        import delta_sharing
        import requests  # type: ignore[import-untyped]  # it comes with delta-sharing, without types
    except ImportError:
        raise MarketError(
            "DELTA_SHARING_MISSING",
            "Loading a DataFrame takes the delta-sharing client: pip install delta-sharing. "
            "`rochdale get` downloads the files without it.",
        ) from None
    if market is None:
        from rochdale.client.market import Market

        with Market.open() as opened:
            return load(license, market=opened, dataset=dataset, version=version, columns=columns, limit=limit)
    token = license_tokens(market, license, dataset=dataset, version=version, columns=columns).current()
    if len(token.datasets) != 1:
        raise MarketError(
            "DATASET_NOT_NAMED",
            f"This license opens {len(token.datasets)} datasets; name one of {', '.join(token.datasets)}.",
            {"datasets": ",".join(token.datasets)},
        )
    with tempfile.TemporaryDirectory(prefix="rochdale-") as directory:
        profile = Path(directory) / "license.share"
        write_profile(profile, fit_for_secrets(token.gateway_url), token.token, token.expires_at)
        try:
            frame: Any = delta_sharing.load_as_pandas(table_url(profile, token.datasets[0]), limit=limit)
        except requests.HTTPError as error:
            raise _refusal(error) from None
    return frame


def _refusal(error: Any) -> MarketError:
    """The gateway's refusal inside an error of the client, which talks through requests rather than httpx."""
    import httpx

    answer = error.response
    if answer is None:
        return MarketError("GATEWAY_UNREACHABLE", "The gateway did not answer.")
    return from_http(
        httpx.Response(answer.status_code, content=answer.content, request=httpx.Request("GET", answer.url))
    )
