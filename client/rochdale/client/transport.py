"""Where secrets may travel: in the clear within one machine only, anywhere else encrypted."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from rochdale.client.refusals import MarketError


def within_machine(host: str) -> bool:
    """Whether a host name or address can only be this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def fit_for_secrets(url: str) -> str:
    """The URL, if a token may be sent there. Refuses with GATEWAY_NOT_ENCRYPTED."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and within_machine(parts.hostname or "")):
        return url
    raise MarketError("GATEWAY_NOT_ENCRYPTED", f"No token is sent to {url}: it is not encrypted.", {"url": url})
