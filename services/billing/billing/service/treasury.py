"""TreasuryService, made of one part a noun, and who may call what."""

from billing.service.treasury_accounts import PayoutAccounts
from billing.service.treasury_books import Books
from billing.service.treasury_closing import Closing
from billing.service.treasury_overview import Overview
from billing.service.treasury_payouts import Payouts
from rochdale.billing.v1 import treasury_pb2 as pb
from rochdale.billing.v1 import treasury_pb2_grpc
from rochdale.identity.v1 import identity_pb2
from rochdale_kit.identity import roles

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["TreasuryService"]
_READERS = roles(identity_pb2.ROLE_STEWARD, identity_pb2.ROLE_OPERATOR)
_STEWARD = roles(identity_pb2.ROLE_STEWARD)
_OPERATOR = roles(identity_pb2.ROLE_OPERATOR)
ACCESS = {
    "GetTreasury": _READERS,
    "ListShares": _READERS,
    "GetPayoutAccount": _READERS,
    "StartOnboarding": _STEWARD,
    "SetBankAccount": _STEWARD,
    "ApproveBankAccount": _READERS,
    "ListPayouts": _READERS,
    "ExportPayouts": _OPERATOR,
    "ConfirmPayout": _OPERATOR,
    "ReturnPayout": _OPERATOR,
    "RecordCost": _STEWARD,
    "ListBalances": _READERS,
    "ListJournals": _READERS,
    "ExportBook": _READERS,
    "Reconcile": _OPERATOR,
    "ListBreaks": _READERS,
    "ResolveBreak": _OPERATOR,
    "CloseMonth": _READERS,
}


class TreasuryService(Overview, PayoutAccounts, Payouts, Books, Closing, treasury_pb2_grpc.TreasuryServiceServicer):
    """What a treasurer sees and does."""
