"""DividendService, made of one part a noun, and who may call it."""

from billing.service.dividend_base import BOTH, MEMBERS, STEWARDS
from billing.service.dividend_payments import DividendPayments
from billing.service.dividend_runs import DividendRuns
from billing.service.payees import Payees
from billing.service.statements import Statements
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale.billing.v1 import dividends_pb2_grpc

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["DividendService"]
ACCESS = {
    "ListDividendPolicies": BOTH,
    "CreateDividendRun": STEWARDS,
    "GetDividendRun": BOTH,
    "ListDividendRuns": BOTH,
    "ComputeDividendRun": STEWARDS,
    "OpenObjections": STEWARDS,
    "ObjectToDividendRun": MEMBERS,
    "AnswerObjection": STEWARDS,
    "ApproveDividendRun": STEWARDS,
    "DiscardDividendRun": STEWARDS,
    "PostDividendRun": STEWARDS,
    "PayDividendRun": STEWARDS,
    "ExportDividendPayments": STEWARDS,
    "SettleDividendPayments": STEWARDS,
    "GetStatement": BOTH,
    "ListStatements": BOTH,
    "ExportStatement": BOTH,
    "ImportWeights": STEWARDS,
    "SetPayee": MEMBERS,
    "GetPayee": MEMBERS,
    "SetTaxProfile": STEWARDS,
    "GetTaxProfile": BOTH,
}


class DividendService(DividendRuns, DividendPayments, Statements, Payees, dividends_pb2_grpc.DividendServiceServicer):
    """What members earn."""
