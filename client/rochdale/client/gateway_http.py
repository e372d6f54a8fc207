"""Asking a gateway over HTTP with an access token that may end meanwhile, on a connection that may break. No files here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import httpx

from rochdale.client.refusals import MarketError, from_http
from rochdale.client.renewal import Renewable
from rochdale.client.tokens import AccessToken
from rochdale.client.transport import fit_for_secrets

T = TypeVar("T")

_RETRY_DELAYS_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0)
_RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})


class TryAgainError(Exception):
    """A failure that may pass; `refusal` is what to say if it does not."""

    def __init__(self, refusal: MarketError) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Door:
    """A gateway's HTTP side for one job. Safe to use from many threads; set `closing` to end them all soon."""

    def __init__(self, client: httpx.Client, tokens: Renewable[AccessToken]) -> None:
        self._client, self._tokens = client, tokens
        self.closing = threading.Event()
        self._base = fit_for_secrets(tokens.current().gateway_url).rstrip("/") + "/"

    def url(self, reference: str) -> str:
        """The absolute URL of a reference. The token goes to its own gateway only: refuses with FILE_URL_FOREIGN."""
        url = urljoin(self._base, reference)
        if urlsplit(url)[:2] != urlsplit(self._base)[:2]:
            raise MarketError("FILE_URL_FOREIGN", f"The gateway points to another host, {url}.", {"url": url})
        return url

    def get(self, url: str, headers: Mapping[str, str], read: Callable[[httpx.Response], T]) -> T:
        """Gives the answer (200 or 206, body unread) to `read`. A token refused is renewed once.

        Raises TryAgainError if the connection broke or the gateway is busy, also from inside `read`; MarketError if it
        refused.
        """
        if self.closing.is_set():
            raise _stopped()
        token = self._tokens.current()
        try:
            for last in (False, True):
                # Identity, because a compressed answer has neither our offsets nor our hash.
                sent = {**headers, "authorization": f"Bearer {token.token}", "accept-encoding": "identity"}
                with self._client.stream("GET", url, headers=sent) as response:
                    if response.status_code in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                        return read(response)
                    response.read()
                    if response.status_code != httpx.codes.UNAUTHORIZED or last:
                        break
                token = self._tokens.replace(token)
        except httpx.TransportError as error:
            raise TryAgainError(self.broken_off(url, type(error).__name__)) from None
        refusal = from_http(response)
        if response.status_code in _RETRIED_STATUSES:
            raise TryAgainError(refusal)
        raise refusal

    def pieces(self, response: httpx.Response) -> Iterator[bytes]:
        """The body as it comes; ends the thread's work when the job is closing."""
        for piece in response.iter_raw():
            if self.closing.is_set():
                raise _stopped()
            yield piece

    def pause(self, failures: int, again: TryAgainError) -> int:
        """Waits after the given number of failures in a row and returns it, or raises the refusal if they are too many."""
        if failures > len(_RETRY_DELAYS_SECONDS):
            raise again.refusal from None
        if self.closing.wait(_RETRY_DELAYS_SECONDS[failures - 1]):
            raise _stopped()
        return failures

    def broken_off(self, url: str, how: str = "the answer ended early") -> MarketError:
        """What to say when the connection keeps breaking."""
        host = urlsplit(url).netloc
        return MarketError(
            "GATEWAY_UNREACHABLE", f"The connection to the gateway {host} keeps breaking ({how}).", {"gateway": host}
        )


def quoted_etag(sha256: str) -> str:
    """The ETag under which a gateway serves the file with this hash."""
    return f'"{sha256}"'


def _stopped() -> MarketError:
    return MarketError("DOWNLOAD_STOPPED", "The download was stopped; run it again to go on from here.")
