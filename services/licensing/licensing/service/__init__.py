"""Licensing's RPCs, one file a noun, put together to the one service of the contract."""

from licensing.service.base import ACCESS, DESCRIPTOR, Lives
from licensing.service.licensees import LicenseeCalls
from licensing.service.licenses import LicenseCalls
from licensing.service.negotiations import NegotiationCalls
from licensing.service.quotes import QuoteCalls

__all__ = ["ACCESS", "DESCRIPTOR", "LicensingService", "Lives"]


class LicensingService(LicenseeCalls, QuoteCalls, NegotiationCalls, LicenseCalls):
    """Licensees, quotes, negotiations and licenses."""
