"""BillingService, made of one part a noun. Each part says who may call it."""

from billing.service import disputes, invoices, orders, refunds, subscriptions, transfers
from rochdale.billing.v1 import billing_pb2 as pb
from rochdale.billing.v1 import billing_pb2_grpc
from rochdale_kit.identity import roles

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["BillingService"]
# What no part serves yet is for nobody.
ACCESS = {method.name: roles() for method in DESCRIPTOR.methods}
for part in (orders, transfers, invoices, refunds, disputes, subscriptions):
    ACCESS |= part.ACCESS


class BillingService(
    orders.Orders,
    transfers.Transfers,
    invoices.Invoices,
    refunds.Refunds,
    disputes.Disputes,
    subscriptions.Subscriptions,
    billing_pb2_grpc.BillingServiceServicer,
):
    """Orders, their payments and their documents, and what is paid again."""
