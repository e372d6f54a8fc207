"""What every RPC is asked about somebody's things, and how to ask it: by this, tests walk the whole contract."""

import importlib
import os
import pkgutil
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from hostile_world import NOBODYS, Things, gateway_channel
from house import Person, request_id
from walk import MarketPeople

from rochdale.access_broker.v1 import access_broker_pb2 as broker
from rochdale.billing.v1 import billing_pb2 as billing
from rochdale.billing.v1 import dividends_pb2 as dividends
from rochdale.billing.v1 import treasury_pb2 as treasury
from rochdale.catalog.v1 import catalog_pb2 as catalog
from rochdale.data_gateway.v1 import data_gateway_pb2 as gateway
from rochdale.governance.v1 import decisions_pb2 as decisions
from rochdale.governance.v1 import governance_pb2 as governance
from rochdale.governance.v1 import membership_pb2 as membership
from rochdale.governance.v1 import proposals_pb2 as proposals
from rochdale.identity.v1 import identity_pb2 as identity
from rochdale.licensing.v1 import licensing_pb2 as licensing
from rochdale.type.v1 import pricing_pb2 as pricing
from rochdale.type.v1 import scope_pb2 as scope
from rochdale.type.v1 import signature_pb2
from rochdale.type.v1.money_pb2 import Money
from rochdale_kit.clock import new_id, now, to_timestamp
from rochdale_kit.cooperative_keys import introduce
from rochdale_kit.identity import Access
from rochdale_kit.refusals import Refusal, refusal_of
from rochdale_kit.signing import SigningKey

PACKAGES = ["identity", "governance", "catalog", "licensing", "billing", "access_broker", "data_gateway"]

Asking = Callable[[Things], Message]


def tables(package: str) -> dict[ServiceDescriptor, dict[str, Access]]:
    """Every service of a package that has an access table, wherever in `service` it stands."""
    module = importlib.import_module(f"{package}.service")
    modules = [module]
    for one in pkgutil.iter_modules(getattr(module, "__path__", [])):
        modules.append(importlib.import_module(f"{package}.service.{one.name}"))
    return {one.DESCRIPTOR: one.ACCESS for one in modules if hasattr(one, "ACCESS") and hasattr(one, "DESCRIPTOR")}


def table(package: str) -> dict[str, Access]:
    """By method; no two services of a package have a method of the same name."""
    found = [item for access in tables(package).values() for item in access.items()]
    assert len(dict(found)) == len(found)
    return dict(found)


async def ask(market: MarketPeople, rpc: str, request: Message, person: Person) -> Message | Refusal:
    package, _, method = rpc.partition(".")
    channel = market.channel(package) if package != "data_gateway" else await gateway_channel(market, "victims")
    service = next(one for one, access in tables(package).items() if method in access)
    kind = message_factory.GetMessageClass(service.methods_by_name[method].output_type)
    call: Any = channel.unary_unary(
        f"/{service.full_name}/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=kind.FromString,
    )
    try:
        reply: Message = await call(request, metadata=person.metadata, timeout=10)
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    return reply


def wide(things: Things) -> scope.SharingScope:
    return scope.SharingScope(
        datasets=[scope.DatasetScope(dataset=things.dataset, first_version=1, last_version=1, columns=["zper"])],
        categories=[scope.BUYER_CATEGORY_COMPANY],
        purposes=["ResearchAndDevelopment"],
        actions=[scope.USE_ACTION_INSPECT],
        max_mode=scope.ACCESS_MODE_DOWNLOAD,
        floor_price=Money(amount_minor=0, currency="EUR"),
        territories=["WORLD"],
        max_duration_seconds=86400,
        max_exclusivity=scope.EXCLUSIVITY_NONE,
    )


def cooperative(things: Things) -> str:
    return f"cooperatives/{things.cooperative}"


def payout(things: Things) -> str:
    return f"{cooperative(things)}/payouts/out_{NOBODYS}"


def run(things: Things) -> str:
    return f"{cooperative(things)}/dividendRuns/run_{NOBODYS}"


def statement(things: Things) -> str:
    return f"{things.member}/statements/run_{NOBODYS}"


def allowing(things: Things) -> proposals.PolicyDelta:
    return proposals.PolicyDelta(
        rules=[proposals.RuleDraft(effect=governance.RULE_EFFECT_ALLOW, scope=wide(things), life_seconds=86400)]
    )


# What the requests name that is somebody's. PUBLIC means that anybody may know it, or that the request names nobody's.
PRIVATE: dict[str, Asking] = {
    "identity.GetOrganization": lambda t: identity.GetOrganizationRequest(name=f"organizations/{t.cooperative}"),
    "identity.VerifyOrganization": lambda t: identity.VerifyOrganizationRequest(
        request_id=request_id(), name=f"organizations/{t.buyer}"
    ),
    "identity.CreateApiKey": lambda t: identity.CreateApiKeyRequest(
        request_id=request_id(),
        parent=f"organizations/{t.cooperative}",
        key_hash=os.urandom(32),
        label="mine",
        roles=[identity.ROLE_STEWARD],
    ),
    "identity.ListApiKeys": lambda t: identity.ListApiKeysRequest(parent=f"organizations/{t.cooperative}"),
    "identity.RevokeApiKey": lambda t: identity.RevokeApiKeyRequest(name=t.key),
    "governance.AddCooperativeKey": lambda t: governance.AddCooperativeKeyRequest(
        key=introduce(cooperative(t), SigningKey.generate(), now())
    ),
    "governance.AddMembers": lambda t: governance.AddMembersRequest(
        request_id=request_id(), parent=cooperative(t), references=["me"]
    ),
    "governance.ListMembers": lambda t: governance.ListMembersRequest(parent=cooperative(t)),
    "governance.ProposeSharingRule": lambda t: governance.ProposeSharingRuleRequest(
        request_id=request_id(),
        parent=cooperative(t),
        effect=governance.RULE_EFFECT_DENY,
        scope=wide(t),
        rationale="mine",
    ),
    "governance.ApproveSharingRule": lambda t: governance.ApproveSharingRuleRequest(name=t.rule),
    "governance.NarrowSharingRule": lambda t: governance.NarrowSharingRuleRequest(
        request_id=request_id(), name=t.rule, revision=1, effective_time=to_timestamp(now())
    ),
    "governance.CreateProposal": lambda t: proposals.CreateProposalRequest(
        request_id=request_id(), parent=cooperative(t), title="mine", body="mine", delta=allowing(t)
    ),
    "governance.AmendProposal": lambda t: proposals.AmendProposalRequest(
        request_id=request_id(), name=t.proposal, revision=1, title="mine", body="mine", delta=allowing(t)
    ),
    "governance.SubmitProposal": lambda t: proposals.SubmitProposalRequest(name=t.proposal, revision=1),
    "governance.SponsorProposal": lambda t: proposals.SponsorProposalRequest(name=t.proposal, revision=1),
    "governance.FreezeProposal": lambda t: proposals.FreezeProposalRequest(name=t.proposal, revision=1),
    "governance.WithdrawProposal": lambda t: proposals.WithdrawProposalRequest(name=t.proposal, revision=1),
    "governance.CommentOnProposal": lambda t: proposals.CommentOnProposalRequest(
        request_id=request_id(), name=t.proposal, text="mine"
    ),
    "governance.ListComments": lambda t: proposals.ListCommentsRequest(parent=t.proposal),
    "governance.DeclareInterest": lambda t: proposals.DeclareInterestRequest(name=t.proposal, statement="mine"),
    "governance.CastBallot": lambda t: proposals.CastBallotRequest(
        name=t.proposal, frozen_hash="0" * 64, choice=proposals.BALLOT_CHOICE_YES
    ),
    "governance.ListBoard": lambda t: proposals.ListBoardRequest(parent=t.proposal),
    "governance.GetRollProof": lambda t: proposals.GetRollProofRequest(name=t.proposal),
    "governance.SetDelegation": lambda t: proposals.SetDelegationRequest(
        parent=t.member, decision_class=decisions.DECISION_CLASS_ROUTINE, delegate=t.member[:-1] + "Z"
    ),
    "governance.ListDelegations": lambda t: proposals.ListDelegationsRequest(parent=t.member),
    "governance.GetProposal": lambda t: proposals.GetProposalRequest(name=t.proposal),
    "governance.ChallengeProposal": lambda t: proposals.ChallengeProposalRequest(
        request_id=request_id(), name=t.proposal, ground=proposals.CHALLENGE_GROUND_ROLL, statement="mine"
    ),
    "governance.ResolveChallenge": lambda t: proposals.ResolveChallengeRequest(
        request_id=request_id(), name=t.proposal, number=1, upheld=True, answer="mine"
    ),
    "governance.EnactProposal": lambda t: proposals.EnactProposalRequest(
        request_id=request_id(), name=t.proposal, effective_time=to_timestamp(now())
    ),
    "governance.InviteMembers": lambda t: membership.InviteMembersRequest(
        request_id=request_id(),
        parent=cooperative(t),
        invitations=[membership.Invitation(reference="mine", email="me@mine.example", code_hash=os.urandom(32))],
    ),
    "governance.AnswerApplication": lambda t: membership.AnswerApplicationRequest(name=t.member, approved=True),
    "governance.GetMember": lambda t: membership.GetMemberRequest(name=t.member),
    "governance.UpdateMember": lambda t: membership.UpdateMemberRequest(name=t.member, email="me@mine.example"),
    "governance.LeaveCooperative": lambda t: membership.LeaveCooperativeRequest(name=t.member),
    "governance.EraseMember": lambda t: membership.EraseMemberRequest(name=t.member, confirm_name=t.member),
    "governance.SetSteward": lambda t: membership.SetStewardRequest(name=t.member, steward=True),
    "governance.GiveConsent": lambda t: membership.GiveConsentRequest(
        request_id=request_id(),
        parent=t.member,
        dataset=t.dataset,
        purposes=["ResearchAndDevelopment"],
        categories=[scope.BUYER_CATEGORY_COMPANY],
        notice_hash="0" * 64,
        language="en",
    ),
    "governance.RecordConsents": lambda t: membership.RecordConsentsRequest(
        request_id=request_id(),
        parent=cooperative(t),
        references=["mine"],
        dataset=t.dataset,
        purposes=["ResearchAndDevelopment"],
        categories=[scope.BUYER_CATEGORY_COMPANY],
        evidence="mine",
        notice_hash="0" * 64,
        language="en",
    ),
    "governance.WithdrawConsent": lambda t: membership.WithdrawConsentRequest(parent=t.member, dataset=t.dataset),
    "governance.ListConsents": lambda t: membership.ListConsentsRequest(parent=t.member),
    "governance.GetConsentReceipt": lambda t: membership.GetConsentReceiptRequest(name=t.consent),
    "governance.ListContributions": lambda t: membership.ListContributionsRequest(parent=t.member),
    "governance.ListUses": lambda t: membership.ListUsesRequest(parent=t.member),
    "governance.ListNotices": lambda t: membership.ListNoticesRequest(parent=t.member),
    "governance.ReadNotices": lambda t: membership.ReadNoticesRequest(parent=t.member),
    "governance.GetDeletionNotice": lambda t: membership.GetDeletionNoticeRequest(name=t.deletion_notice),
    "governance.AttestDeletion": lambda t: membership.AttestDeletionRequest(
        request_id=request_id(), name=t.deletion_notice, attestation="mine"
    ),
    "catalog.CreateDataset": lambda t: catalog.CreateDatasetRequest(
        request_id=request_id(),
        parent=cooperative(t),
        dataset_id="planted",
        title="mine",
        modality=catalog.MODALITY_TABULAR,
    ),
    "catalog.PublishOffering": lambda t: catalog.PublishOfferingRequest(
        request_id=request_id(),
        parent=cooperative(t),
        offering_id=new_id("off"),
        title="mine",
        scope=wide(t),
        tiers=[
            catalog.OfferingTier(
                categories=[scope.BUYER_CATEGORY_COMPANY],
                price=Money(amount_minor=0, currency="EUR"),
                sharing_rule=t.rule,
            )
        ],
        signature=signature_pb2.Signature(key_id="A" * 43, value=b"0" * 64),
    ),
    "catalog.CloseOffering": lambda t: catalog.CloseOfferingRequest(name=t.offering),
    "licensing.GetLicensee": lambda t: licensing.GetLicenseeRequest(name=f"licensees/{t.buyer}"),
    "licensing.AttestCategory": lambda t: licensing.AttestCategoryRequest(
        request_id=request_id(), name=f"licensees/{t.buyer}", category=scope.BUYER_CATEGORY_ACADEMIC
    ),
    "licensing.RequestLicense": lambda t: licensing.RequestLicenseRequest(
        request_id=request_id(), offering=t.offering, quote=t.quote
    ),
    "licensing.GetMandateRequest": lambda t: licensing.GetMandateRequestRequest(name=t.mandate_request),
    "licensing.WithdrawMandateRequest": lambda t: licensing.WithdrawMandateRequestRequest(name=t.mandate_request),
    "licensing.Counter": lambda t: licensing.CounterRequest(
        request_id=request_id(), name=t.negotiation, etag=t.etag, wish=licensing.Wish()
    ),
    "licensing.AcceptNegotiation": lambda t: licensing.AcceptNegotiationRequest(
        request_id=request_id(), name=t.negotiation, etag=t.etag
    ),
    "licensing.TerminateNegotiation": lambda t: licensing.TerminateNegotiationRequest(
        request_id=request_id(), name=t.negotiation
    ),
    "licensing.GetNegotiation": lambda t: licensing.GetNegotiationRequest(name=t.negotiation),
    "licensing.GetLicense": lambda t: licensing.GetLicenseRequest(name=t.license),
    "licensing.TerminateLicense": lambda t: licensing.TerminateLicenseRequest(
        request_id=request_id(), name=t.license, reason="mine"
    ),
    "billing.GetOrder": lambda t: billing.GetOrderRequest(name=t.order),
    "billing.StartPayment": lambda t: billing.StartPaymentRequest(
        request_id=request_id(), order=t.order, method=billing.PAYMENT_METHOD_CHECKOUT
    ),
    "billing.GetPayment": lambda t: billing.GetPaymentRequest(name=t.payment),
    "billing.ConfirmBankTransfer": lambda t: billing.ConfirmBankTransferRequest(
        request_id=request_id(),
        order=t.order,
        amount=Money(amount_minor=120_000, currency="EUR"),
        bank_reference="mine",
    ),
    "billing.RefundOrder": lambda t: billing.RefundOrderRequest(request_id=request_id(), order=t.order, reason="mine"),
    "billing.ConfirmRefund": lambda t: billing.ConfirmRefundRequest(
        request_id=request_id(), name=f"{t.order}/refunds/rfd_{'0' * 26}", bank_reference="mine"
    ),
    "billing.ListRefunds": lambda t: billing.ListRefundsRequest(order=t.order),
    "billing.GetEvidence": lambda t: billing.GetEvidenceRequest(name=f"{t.order}/disputes/dis_{'0' * 26}"),
    "billing.SubmitEvidence": lambda t: billing.SubmitEvidenceRequest(
        request_id=request_id(), name=f"{t.order}/disputes/dis_{'0' * 26}"
    ),
    "billing.ListInvoices": lambda t: billing.ListInvoicesRequest(order=t.order),
    "billing.GetInvoice": lambda t: billing.GetInvoiceRequest(name=f"{t.order}/invoices/inv_{'0' * 26}"),
    "billing.IssueInvoice": lambda t: billing.IssueInvoiceRequest(request_id=request_id(), order=t.order),
    "billing.GetTreasury": lambda t: treasury.GetTreasuryRequest(parent=cooperative(t)),
    "billing.ListShares": lambda t: treasury.ListSharesRequest(parent=cooperative(t)),
    "billing.GetPayoutAccount": lambda t: treasury.GetPayoutAccountRequest(parent=cooperative(t)),
    "billing.StartOnboarding": lambda t: treasury.StartOnboardingRequest(
        request_id=request_id(), parent=cooperative(t), country="NL"
    ),
    "billing.SetBankAccount": lambda t: treasury.SetBankAccountRequest(
        request_id=request_id(), parent=cooperative(t), iban="NL91ABNA0417164300", holder="mine"
    ),
    "billing.ApproveBankAccount": lambda t: treasury.ApproveBankAccountRequest(
        request_id=request_id(), parent=cooperative(t), iban_end="4300"
    ),
    "billing.ListPayouts": lambda t: treasury.ListPayoutsRequest(parent=cooperative(t)),
    "billing.ExportPayouts": lambda t: treasury.ExportPayoutsRequest(
        payouts=[payout(t)], currency="EUR", format=treasury.PAYMENT_FILE_FORMAT_CSV
    ),
    "billing.ConfirmPayout": lambda t: treasury.ConfirmPayoutRequest(
        request_id=request_id(), name=payout(t), bank_reference="mine"
    ),
    "billing.ReturnPayout": lambda t: treasury.ReturnPayoutRequest(
        request_id=request_id(), name=payout(t), reason="mine"
    ),
    "billing.RecordCost": lambda t: treasury.RecordCostRequest(
        request_id=request_id(),
        parent=cooperative(t),
        amount=Money(amount_minor=1, currency="EUR"),
        description="mine",
    ),
    "billing.ListBalances": lambda t: treasury.ListBalancesRequest(parent=cooperative(t)),
    "billing.ListJournals": lambda t: treasury.ListJournalsRequest(parent=cooperative(t)),
    "billing.ExportBook": lambda t: treasury.ExportBookRequest(parent=cooperative(t)),
    "billing.ListBreaks": lambda t: treasury.ListBreaksRequest(parent=cooperative(t)),
    "billing.ResolveBreak": lambda t: treasury.ResolveBreakRequest(
        request_id=request_id(), name=f"breaks/brk_{NOBODYS}", note="mine"
    ),
    "billing.CloseMonth": lambda t: treasury.CloseMonthRequest(
        request_id=request_id(), parent=cooperative(t), month="2026-01"
    ),
    "billing.GetSubscription": lambda t: billing.GetSubscriptionRequest(license=t.license),
    "billing.CancelSubscription": lambda t: billing.CancelSubscriptionRequest(
        request_id=request_id(), license=t.license
    ),
    "billing.SetBudget": lambda t: billing.SetBudgetRequest(
        request_id=request_id(), license=t.license, meter=pricing.METER_GIGABYTE, cap="1"
    ),
    "billing.ListDividendPolicies": lambda t: dividends.ListDividendPoliciesRequest(parent=cooperative(t)),
    "billing.CreateDividendRun": lambda t: dividends.CreateDividendRunRequest(
        request_id=request_id(), parent=cooperative(t), month="2026-01", currency="EUR"
    ),
    "billing.GetDividendRun": lambda t: dividends.GetDividendRunRequest(name=run(t)),
    "billing.ListDividendRuns": lambda t: dividends.ListDividendRunsRequest(parent=cooperative(t)),
    "billing.ComputeDividendRun": lambda t: dividends.ComputeDividendRunRequest(name=run(t)),
    "billing.OpenObjections": lambda t: dividends.OpenObjectionsRequest(name=run(t)),
    "billing.ObjectToDividendRun": lambda t: dividends.ObjectToDividendRunRequest(
        request_id=request_id(), name=run(t), text="mine"
    ),
    "billing.AnswerObjection": lambda t: dividends.AnswerObjectionRequest(
        request_id=request_id(), name=run(t), number=1, answer="mine"
    ),
    "billing.ApproveDividendRun": lambda t: dividends.ApproveDividendRunRequest(
        request_id=request_id(), name=run(t), inputs_hash="0" * 64
    ),
    "billing.DiscardDividendRun": lambda t: dividends.DiscardDividendRunRequest(request_id=request_id(), name=run(t)),
    "billing.PostDividendRun": lambda t: dividends.PostDividendRunRequest(name=run(t)),
    "billing.PayDividendRun": lambda t: dividends.PayDividendRunRequest(name=run(t)),
    "billing.ExportDividendPayments": lambda t: dividends.ExportDividendPaymentsRequest(
        name=run(t), format=treasury.PAYMENT_FILE_FORMAT_CSV
    ),
    "billing.SettleDividendPayments": lambda t: dividends.SettleDividendPaymentsRequest(
        request_id=request_id(), name=run(t), bank_reference="mine", returned_members=[t.member]
    ),
    "billing.GetStatement": lambda t: dividends.GetStatementRequest(name=statement(t)),
    "billing.ListStatements": lambda t: dividends.ListStatementsRequest(parent=t.member),
    "billing.ExportStatement": lambda t: dividends.ExportStatementRequest(
        name=statement(t), format=dividends.STATEMENT_FORMAT_JSON
    ),
    "billing.ImportWeights": lambda t: dividends.ImportWeightsRequest(
        request_id=request_id(),
        parent=cooperative(t),
        month="2026-01",
        weights_hash="0" * 64,
        signature=signature_pb2.Signature(key_id="A" * 43, value=b"0" * 64),
        weights=[dividends.MemberWeight(member=t.member, version=f"{t.dataset}/versions/1", units=1)],
    ),
    "billing.SetPayee": lambda t: dividends.SetPayeeRequest(
        request_id=request_id(), parent=t.member, iban="NL91ABNA0417164300", holder="mine"
    ),
    "billing.GetPayee": lambda t: dividends.GetPayeeRequest(parent=t.member),
    "billing.SetTaxProfile": lambda t: dividends.SetTaxProfileRequest(
        request_id=request_id(),
        tax_profile=dividends.TaxProfile(name=f"{t.member}/taxProfile", classification="unclassified"),
    ),
    "billing.GetTaxProfile": lambda t: dividends.GetTaxProfileRequest(parent=t.member),
    "access_broker.GetGrant": lambda t: broker.GetGrantRequest(name=t.grant),
    "access_broker.IssueToken": lambda t: broker.IssueTokenRequest(request_id=request_id(), license=t.license),
    "access_broker.RevokeToken": lambda t: broker.RevokeTokenRequest(token_id=t.token),
    "data_gateway.StartIngestion": lambda t: gateway.StartIngestionRequest(
        request_id=request_id(), dataset=t.dataset, size_bytes=1
    ),
    "data_gateway.GetIngestion": lambda t: gateway.GetIngestionRequest(name=t.ingestion),
    "data_gateway.ListIngestions": lambda t: gateway.ListIngestionsRequest(),
    "data_gateway.ApproveVersion": lambda t: gateway.ApproveVersionRequest(request_id=request_id(), name=t.ingestion),
    "data_gateway.RejectVersion": lambda t: gateway.RejectVersionRequest(name=t.ingestion),
}
# Lists of the caller's own things: whatever is asked for, nothing of another's is in them.
LISTS: dict[str, Asking] = {
    "identity.ListOrganizations": lambda t: identity.ListOrganizationsRequest(),
    "governance.ListLiveConsents": lambda t: membership.ListLiveConsentsRequest(),
    "governance.ListDeletionNotices": lambda t: membership.ListDeletionNoticesRequest(),
    "licensing.ListLicensees": lambda t: licensing.ListLicenseesRequest(),
    "licensing.ListMandateRequests": lambda t: licensing.ListMandateRequestsRequest(),
    "licensing.ListNegotiations": lambda t: licensing.ListNegotiationsRequest(),
    "licensing.ListLicenses": lambda t: licensing.ListLicensesRequest(),
    "billing.ListOrders": lambda t: billing.ListOrdersRequest(license=t.license),
    "billing.ListDisputes": lambda t: billing.ListDisputesRequest(),
    "access_broker.ListGrants": lambda t: broker.ListGrantsRequest(license=t.license),
    "access_broker.ProveGrants": lambda t: broker.ProveGrantsRequest(),
    "access_broker.ListProofReports": lambda t: broker.ListProofReportsRequest(),
    "access_broker.ListRevocations": lambda t: broker.ListRevocationsRequest(),
    "access_broker.ListGrantChains": lambda t: broker.ListGrantChainsRequest(),
}
# They name nobody's, speak for the caller's own organization, or answer anybody what everybody may know.
OPEN = {
    "identity.RegisterOrganization",
    "identity.IssueSession",
    "identity.GetKeySet",
    "identity.RotateSigningKey",
    "governance.CreateCooperative",
    "governance.GetCooperative",
    "governance.ListCooperatives",
    "governance.GetSharingRule",
    "governance.ListSharingRules",
    "governance.GetKeySet",
    "governance.ListProposals",
    "governance.AcceptInvitation",
    "governance.ApplyForMembership",
    "catalog.GetDataset",
    "catalog.ListDatasets",
    "catalog.GetVersion",
    "catalog.ListVersions",
    "catalog.GetOffering",
    "catalog.ListOfferings",
    "catalog.SearchOfferings",
    "licensing.RegisterLicensee",
    "licensing.RequestQuote",
    "licensing.RequestMandate",
    "licensing.ClaimRegisterEntry",
    "licensing.GetKeySet",
    "billing.Reconcile",
    "billing.ImportBankTransfers",
    "billing.SetUpPaymentMethod",
    "billing.GetPaymentMethod",
    "billing.RemovePaymentMethod",
    "access_broker.RegisterGateway",
    "access_broker.GetGateway",
    "access_broker.GetKeySet",
    "access_broker.RotateSigningKey",
}
# These answer anybody about what is public, from the freeze of a proposal on; the things asked for here are not yet.
ANSWER_ANYBODY = {"governance.GetProposal", "governance.ListBoard", "governance.ListComments"}
# What an operator may not do to anybody, verified or not: act for them, pay as them, read their data.
NOT_THE_OPERATORS = [
    "billing.CancelSubscription",
    "billing.SetBudget",
    "identity.CreateApiKey",
    "governance.AddCooperativeKey",
    "governance.AddMembers",
    "governance.ListMembers",
    "governance.CreateProposal",
    "governance.AmendProposal",
    "governance.SubmitProposal",
    "governance.SponsorProposal",
    "governance.FreezeProposal",
    "governance.WithdrawProposal",
    "governance.CommentOnProposal",
    "governance.DeclareInterest",
    "governance.CastBallot",
    "governance.GetRollProof",
    "governance.SetDelegation",
    "governance.ListDelegations",
    "governance.ChallengeProposal",
    "governance.ResolveChallenge",
    "governance.EnactProposal",
    "governance.InviteMembers",
    "governance.AnswerApplication",
    "governance.UpdateMember",
    "governance.LeaveCooperative",
    "governance.EraseMember",
    "governance.SetSteward",
    "governance.GiveConsent",
    "governance.RecordConsents",
    "governance.WithdrawConsent",
    "governance.ListConsents",
    "governance.GetConsentReceipt",
    "governance.ListContributions",
    "governance.ListUses",
    "governance.ListNotices",
    "governance.ReadNotices",
    "governance.AttestDeletion",
    "governance.ProposeSharingRule",
    "governance.ApproveSharingRule",
    "governance.NarrowSharingRule",
    "catalog.CreateDataset",
    "catalog.PublishOffering",
    "catalog.CloseOffering",
    "licensing.RequestLicense",
    "licensing.WithdrawMandateRequest",
    "licensing.Counter",
    "licensing.AcceptNegotiation",
    "licensing.TerminateNegotiation",
    "billing.StartPayment",
    "billing.IssueInvoice",
    "billing.StartOnboarding",
    "billing.SetBankAccount",
    "billing.RecordCost",
    "access_broker.IssueToken",
    "access_broker.ListGrantChains",
    "access_broker.ListRevocations",
    "data_gateway.StartIngestion",
    "data_gateway.GetIngestion",
    "data_gateway.ListIngestions",
    "data_gateway.ApproveVersion",
    "data_gateway.RejectVersion",
]
