"""What each command asks of a market: every request is held against the contract, and whatever is answered can be shown."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from paper_vote import NO, PROPOSAL, YES, Poll, member, scope

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client.authority import SigningKey, enacted_rule, introduce, read_signing_key
from rochdale.client.keys import make_secret, write_key_file
from rochdale.client.market import SERVICES
from rochdale.client.recount import frozen_hash_of
from rochdale.client.terms import now
from rochdale.governance.v1 import events_pb2, governance_pb2, membership_pb2, proposals_pb2
from rochdale.identity.v1 import identity_pb2
from rochdale.licensing.v1 import licensing_pb2
from rochdale.type.v1 import pricing_pb2
from rochdale_kit import chain, signing
from rochdale_kit.boundary import validate

VALLEY = "cooperatives/valley"
ULID = "01JABCDEFGHJKMNPQRSTVWXYZ0"
RULE = f"{VALLEY}/sharingRules/rule_{ULID}"


POLICY = {
    "reserve_bps": 1000,
    "basis": "CONTRIBUTION_BASIS_RECORDS",
    "min_payout": {"amount_minor": 500, "currency": "EUR"},
}


class Clerk(grpc.GenericRpcHandler):
    """Answers every RPC of every contract: with what a test put there, else with nothing. Notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[str, Message] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        service, _, name = handler_call_details.method[1:].partition("/")
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        request_class = message_factory.GetMessageClass(method.input_type)
        answer_class = message_factory.GetMessageClass(method.output_type)

        def answer(request: Message, context: grpc.ServicerContext) -> Message:
            validate(request)
            self.asked.append((name, request))
            return self.answers.get(name) or answer_class()

        return grpc.unary_unary_rpc_method_handler(
            answer, request_class.FromString, lambda message: message.SerializeToString()
        )

    def last(self, name: str) -> Any:
        """The latest request of an RPC."""
        return next(request for asked, request in reversed(self.asked) if asked == name)


@pytest.fixture
def clerk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rochdale: Callable[..., Any]) -> Iterator[Clerk]:
    """A market of clerks, and a key that speaks for member 1 of valley, a steward with the signing key."""
    clerk = Clerk()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[clerk])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    (tmp_path / "market.json").write_text(json.dumps({"version": 1, "services": dict.fromkeys(SERVICES, address)}))
    write_key_file(tmp_path / "me.key", make_secret())
    monkeypatch.setenv("ROCHDALE_MARKET", str(tmp_path / "market.json"))
    monkeypatch.setenv("ROCHDALE_KEY_FILE", str(tmp_path / "me.key"))
    monkeypatch.chdir(tmp_path)
    session = identity_pb2.Session(token="x", member=member(1))
    session.organization.name = "organizations/valley"
    session.expire_time.CopyFrom(now())
    session.expire_time.seconds += 900
    key = SigningKey.generate()
    (tmp_path / "valley.signing.key").write_bytes(_pem(key))
    governance = signing.SigningKey.generate()
    clerk.answers = {
        "IssueSession": session,
        "GetCooperative": governance_pb2.Cooperative(name=VALLEY, signing_keys=[introduce(VALLEY, key, now())]),
        "GetKeySet": governance_pb2.KeySet(jwks_json=json.dumps({"keys": [governance.public_jwk()]})),
        "GetProposal": _passed(governance).proposal,
    }
    yield clerk
    server.stop(0).wait()


def _pem(key: SigningKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _passed(key: signing.SigningKey) -> Poll:
    poll = Poll(key=key)
    for number in range(12):
        poll.cast(number, YES if number else NO)
    poll.close()
    return poll


PROP, MEM = PROPOSAL.rpartition("/")[2], member(2).rpartition("/")[2]
COMMANDS = f"""
member invite ada bo                                          > InviteMembers
member join valley --code ABCD-EFGH-IJKL-MNOP --save-key a.key > AcceptInvitation
member apply valley --reference ada --save-key a.key          > ApplyForMembership
member approve {MEM}                                          > AnswerApplication
member reject {MEM}                                           > AnswerApplication
member list                                                   > ListMembers
member show                                                   > GetMember
member show {MEM}                                             > GetMember
member update --email a@b.example --affiliation lab.example   > UpdateMember
member leave                                                  > LeaveCooperative
member erase {MEM} --confirm {MEM}                            > EraseMember
member steward {MEM} --no-longer                              > SetSteward
member uses                                                   > ListUses
member contributions                                          > ListContributions
member notices --unread --mark-read                           > ReadNotices
consent give randhie --purpose Purpose --category academic    > GiveConsent
consent refuse randhie                                        > GiveConsent
consent withdraw randhie                                      > WithdrawConsent
consent withdraw --all                                        > WithdrawConsent
consent list                                                  > ListConsents
proposal show {PROP}                                          > GetProposal
proposal list --state voting                                  > ListProposals
proposal submit {PROP}                                        > SubmitProposal
proposal sponsor {PROP}                                       > SponsorProposal
proposal freeze {PROP}                                        > FreezeProposal
proposal withdraw {PROP}                                      > WithdrawProposal
proposal amend {PROP} --title Better                          > AmendProposal
proposal comment {PROP} Why?                                  > CommentOnProposal
proposal comments {PROP}                                      > ListComments
proposal interest {PROP} --statement Mine                     > DeclareInterest
proposal vote {PROP} abstain                                  > CastBallot
proposal board {PROP}                                         > ListBoard
proposal delegate {MEM} --class sensitive                     > SetDelegation
proposal delegate --end                                       > SetDelegation
proposal delegations                                          > ListDelegations
proposal challenge {PROP} --ground text --statement Other     > ChallengeProposal
proposal resolve {PROP} 1 --turn-down --answer No             > ResolveChallenge
proposal create --title T --body B --end-rule rule_{ULID}     > CreateProposal
rule approve rule_{ULID}                                      > ApproveSharingRule
rule list                                                     > ListSharingRules
cooperative charter                                           > GetCooperative
cooperative key show                                          > GetCooperative
cooperative key rotate --save-key next.key                    > AddCooperativeKey
mandate request valley/off_{ULID} --price "1 EUR" -m Please   > RequestMandate
mandate list                                                  > ListMandateRequests
mandate show mreq_{ULID}                                      > GetMandateRequest
mandate withdraw mreq_{ULID}                                  > WithdrawMandateRequest
deletion list --open                                          > ListDeletionNotices
deletion attest del_{ULID} --attestation Done                 > AttestDeletion
license prove lic_{ULID}                                      > ProveGrants
license prove                                                 > ProveGrants
proof list                                                    > ListProofReports
licensee claim ror 02feahw73                                  > ClaimRegisterEntry
"""
LINES = [tuple(part.strip() for part in line.split(" > ")) for line in COMMANDS.strip().splitlines()]


@pytest.mark.parametrize("machine", [False, True], ids=["words", "json"])
@pytest.mark.parametrize(("command", "rpc"), LINES, ids=[command.partition(" --")[0] for command, _ in LINES])
def test_a_command_asks_what_the_contract_takes(
    command: str, rpc: str, machine: bool, clerk: Clerk, rochdale: Callable[..., Any]
) -> None:
    ran = rochdale(*shlex.split(command), *(["--json"] if machine else []))
    assert ran.code == 0, ran.err
    assert clerk.last(rpc)
    if machine:
        json.loads(ran.out)


def test_consent_is_for_the_dataset_purposes_and_buyers_named(clerk: Clerk, rochdale: Callable[..., Any]) -> None:
    rochdale("consent", "give", "randhie", "--purpose", "AcademicResearch,Marketing", "--category", "sme", "--json")
    asked = clerk.last("GiveConsent")
    assert asked.parent == member(1) and asked.dataset == f"{VALLEY}/datasets/randhie"
    assert list(asked.purposes) == ["AcademicResearch", "Marketing"] and len(asked.categories) == 1
    ran = rochdale("consent", "refuse", "randhie")
    assert not clerk.last("GiveConsent").purposes and "You can withdraw at any time" in ran.err, "the notice is shown"


def test_a_draft_says_exactly_what_would_change(clerk: Clerk, rochdale: Callable[..., Any], tmp_path: Path) -> None:
    scoped = shlex.split('--dataset randhie --columns a,b --category academic --floor-price "12.50 EUR" --mode stream')
    ran = rochdale("proposal", "create", "--title", "T", "--body", "B", *scoped, "--life", "90d", "--member-recall")
    assert ran.code == 0, ran.err
    draft = clerk.last("CreateProposal").delta.rules[0]
    assert draft.effect == governance_pb2.RULE_EFFECT_ALLOW and not draft.sharing_rule
    assert (draft.life_seconds, draft.member_recall) == (90 * 86_400, True)
    assert draft.scope.floor_price.amount_minor == 1250 and list(draft.scope.datasets[0].columns) == ["a", "b"]
    forbidding = ("--effect", "deny", "--dataset", "randhie", "--columns", "a", "--category", "sme", "--submit")
    rochdale("proposal", "create", "--title", "T", "--body", "B", *forbidding)
    denied = clerk.last("CreateProposal").delta.rules[0]
    assert list(denied.scope.purposes) == ["Purpose"] and len(denied.scope.actions) == 9
    (tmp_path / "charter.json").write_text('{"required_approvals": 3}')
    rochdale("proposal", "create", "--title", "T", "--body", "B", "--charter-file", "charter.json")
    assert clerk.last("CreateProposal").delta.charter.required_approvals == 3
    (tmp_path / "broken.json").write_text("{")
    assert rochdale("proposal", "create", "--title", "T", "--body", "B", "--delta-file", "broken.json").code == 2
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    ran = rochdale("proposal", "create", "--title", "T", "--body", "B", "--dividend-policy", "policy.json")
    assert ran.code == 0, ran.err
    policy = clerk.last("CreateProposal").delta.dividend_policy
    assert (policy.reserve_bps, policy.min_payout.amount_minor) == (1_000, 500)


def test_narrowing_and_ending_are_signed_with_what_the_kit_verifies(
    clerk: Clerk, rochdale: Callable[..., Any], tmp_path: Path
) -> None:
    from rochdale_kit.chain import end_is_signed, flaw_of_signed_rule
    from rochdale_kit.cooperative_keys import CooperativeKeys

    key = read_signing_key(tmp_path / "valley.signing.key")
    cooperative = clerk.answers["GetCooperative"]
    assert isinstance(cooperative, governance_pb2.Cooperative)
    keys = CooperativeKeys.follow(VALLEY, cooperative.signing_keys)
    rule = governance_pb2.SharingRule(
        name=RULE, revision=1, effect=governance_pb2.RULE_EFFECT_ALLOW, scope=scope(), proposal=PROPOSAL, tally_hash="x"
    )
    rule.effective_time.CopyFrom(now())
    rule.expire_time.CopyFrom(now())
    rule.expire_time.seconds += 10_000
    clerk.answers["GetSharingRule"] = rule
    ran = rochdale("rule", "narrow", f"rule_{ULID}", "--max-duration", "12h")
    assert ran.code == 0, ran.err
    asked = clerk.last("NarrowSharingRule")
    following = governance_pb2.SharingRule.FromString(rule.SerializeToString())
    following.revision, following.scope.max_duration_seconds = 2, 43_200
    assert asked.scope == following.scope
    following.effective_time.CopyFrom(asked.effective_time)
    following.rule_hash = signing.canonical_hash(
        following,
        *("name", "revision", "effect", "scope", "effective_time", "expire_time"),
        *("proposal", "tally_hash", "member_recall", "emergency"),
    )
    following.signature.CopyFrom(asked.signature)
    assert flaw_of_signed_rule(following, keys) is None and asked.signature.key_id == key.key_id
    rule.end_time.CopyFrom(asked.effective_time)
    rule.end_signature.CopyFrom(asked.end_signature)
    assert end_is_signed(rule, keys)
    rule.ClearField("end_time")
    assert rochdale("rule", "end", f"rule_{ULID}").code == 0
    assert not clerk.last("NarrowSharingRule").HasField("scope")


def test_an_offering_is_signed_as_the_catalog_will_hash_it(
    clerk: Clerk, rochdale: Callable[..., Any], tmp_path: Path
) -> None:
    from rochdale_kit.chain import hash_of_offering

    clerk.answers["GetSharingRule"] = governance_pb2.SharingRule(name=RULE, revision=1, scope=scope(), rule_hash="ab")
    publish = (
        "offering",
        "publish",
        "--title",
        "T",
        "--tier",
        f"academic=0 EUR@rule_{ULID}",
        "--request-id",
        "publish-1",
    )
    for _ in range(2):
        ran = rochdale(*publish)
        assert ran.code == 0, ran.err
    first, second = (request for name, request in clerk.asked if name == "PublishOffering")
    assert first == second, "a retry is the same request, with the same id and signature"
    offering = catalog_pb2.Offering(
        name=f"{VALLEY}/offerings/{first.offering_id}", scope=first.scope, tiers=first.tiers, rule_hashes=["ab"]
    )
    key = read_signing_key(tmp_path / "valley.signing.key")
    keys = signing.KeySet({key.key_id: key.private.public_key()})
    assert signing.verify_hash(keys, first.signature, signing.OFFERING_PREFIX, hash_of_offering(offering))


def test_a_buyers_request_is_answered_with_an_offering_of_its_own(
    clerk: Clerk, rochdale: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    governance = signing.SigningKey.generate()
    poll = _passed(governance)
    poll.proposal.mandate_request = f"mandateRequests/mreq_{ULID}"
    clerk.answers |= {
        "GetProposal": poll.proposal,
        "ListBoard": proposals_pb2.ListBoardResponse(entries=poll.shown()),
        "GetKeySet": governance_pb2.KeySet(jwks_json=json.dumps({"keys": [governance.public_jwk()]})),
    }
    at = now()
    rule = enacted_rule(poll.proposal.delta.rules[0], poll.proposal, at)
    clerk.answers["GetSharingRule"] = rule
    # Whoever asked from an offering with a monthly price asked for a monthly price.
    monthly = pricing_pb2.PricePlan(interval=pricing_pb2.BILLING_INTERVAL_MONTH)
    tier = catalog_pb2.OfferingTier(categories=rule.scope.categories, price_plan=monthly)
    first = catalog_pb2.Offering(name=f"{VALLEY}/offerings/off_{ULID}", tiers=[tier])
    clerk.answers["GetOffering"] = first
    clerk.answers["GetMandateRequest"] = licensing_pb2.MandateRequest(offering=first.name)
    clerk.answers["EnactProposal"] = proposals_pb2.EnactProposalResponse(proposal=poll.proposal, sharing_rules=[rule])
    ran = rochdale("proposal", "enact", PROP, "--effective-time", at.ToJsonString(), "--json")
    assert ran.code == 0, ran.err
    assert len(clerk.last("EnactProposal").rule_signatures) == 1
    offered = clerk.last("PublishOffering")
    assert offered.mandate_request == poll.proposal.mandate_request and offered.tiers[0].sharing_rule == rule.name
    assert offered.scope == rule.scope and offered.tiers[0].price == rule.scope.floor_price
    assert offered.tiers[0].price_plan == monthly


def test_prices_may_be_due_again_and_by_use(clerk: Clerk, rochdale: Callable[..., Any]) -> None:
    clerk.answers["GetSharingRule"] = governance_pb2.SharingRule(name=RULE, revision=1, scope=scope(), rule_hash="ab")
    publish = ("offering", "publish", "--title", "T")
    tiers = ("--tier", f"academic=0 EUR@rule_{ULID}", "--tier", f"sme=100 EUR@rule_{ULID}")
    plan = ("--every", "month", "--metered", "gigabyte=0.025,included=10,cap=1000", "--metered", "query=0.01")
    ran = rochdale(*publish, *tiers, *plan)
    assert ran.code == 0, ran.err
    free, paid = clerk.last("PublishOffering").tiers
    assert not free.HasField("price_plan") and paid.price_plan == pricing_pb2.PricePlan(
        interval=pricing_pb2.BILLING_INTERVAL_MONTH,
        metered=[
            pricing_pb2.MeteredPrice(meter=pricing_pb2.METER_GIGABYTE, unit_price="2.5", included="10", cap="1000"),
            pricing_pb2.MeteredPrice(meter=pricing_pb2.METER_QUERY, unit_price="1"),
        ],
    )
    # Where all is free, it is the use that is not.
    rochdale(*publish, *tiers[:2], *plan)
    assert clerk.last("PublishOffering").tiers[0].HasField("price_plan")
    rochdale(*publish, *tiers)
    assert not any(tier.HasField("price_plan") for tier in clerk.last("PublishOffering").tiers)
    for wrong in (
        plan[2:],
        (*plan[:2], "--metered", "gigabyte"),
        (*plan[:2], "--metered", "parsec=1"),
        (*plan[:2], "--metered", "query=0,01"),
        ("--every", "week"),
    ):
        assert rochdale(*publish, *tiers, *wrong).code == 2


def test_a_dividend_policy_is_signed_as_billing_verifies_it(
    clerk: Clerk, rochdale: Callable[..., Any], tmp_path: Path
) -> None:
    governance = signing.SigningKey.generate()
    poll = Poll(eligible=20, key=governance)
    poll.proposal.delta.Clear()
    json_format.ParseDict(POLICY, poll.proposal.delta.dividend_policy)
    poll.proposal.frozen_hash = frozen_hash_of(poll.proposal)
    for number in range(12):
        poll.cast(number, YES)
    poll.close()
    clerk.answers |= {
        "GetProposal": poll.proposal,
        "ListBoard": proposals_pb2.ListBoardResponse(entries=poll.shown()),
        "GetKeySet": governance_pb2.KeySet(jwks_json=json.dumps({"keys": [governance.public_jwk()]})),
        "EnactProposal": proposals_pb2.EnactProposalResponse(proposal=poll.proposal),
    }
    ran = rochdale("proposal", "enact", PROP)
    assert ran.code == 0, ran.err
    key = read_signing_key(tmp_path / "valley.signing.key")
    keys = signing.KeySet({key.key_id: key.private.public_key()})
    asked = clerk.last("EnactProposal")
    enacted = events_pb2.DividendPolicyEnacted(
        cooperative=poll.proposal.name.split("/proposals/")[0],
        policy=poll.proposal.delta.dividend_policy,
        proposal=poll.proposal.name,
        tally_hash=poll.proposal.tally.tally_hash,
        effective_time=asked.effective_time,
    )
    hashed = chain.hash_of_dividend_policy(enacted)
    assert signing.verify_hash(keys, asked.dividend_policy_signature, signing.DIVIDEND_POLICY_PREFIX, hashed)
    assert "10 %" in ran.out and "Months that end from now on" in ran.out


def test_codes_of_an_invitation_are_what_their_hashes_say(clerk: Clerk, rochdale: Callable[..., Any]) -> None:
    import hashlib

    ran = rochdale("member", "invite", "ada", "bo", "--json")
    codes = {each["reference"]: each["code"] for each in json.loads(ran.out)["invitations"]}
    asked = {each.reference: each.code_hash for each in clerk.last("InviteMembers").invitations}
    assert asked == {name: hashlib.sha256(code.encode()).digest() for name, code in codes.items()}
    assert isinstance(clerk.last("InviteMembers"), membership_pb2.InviteMembersRequest)
