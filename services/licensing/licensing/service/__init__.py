"""Licensing's RPCs, one file a noun, put together to the one service of the contract."""

from licensing.service.base import ACCESS, DESCRIPTOR
from licensing.service.licensees import LicenseeCalls
from licensing.service.licenses import LicenseCalls
from licensing.service.mandates import MandateCalls
from licensing.service.negotiations import NegotiationCalls
from licensing.service.quotes import QuoteCalls

__all__ = ["ACCESS", "DESCRIPTOR", "LicensingService"]


class LicensingService(LicenseeCalls, QuoteCalls, NegotiationCalls, LicenseCalls, MandateCalls):
    """Licensees, quotes, negotiations, licenses, and requests outside the mandate."""
