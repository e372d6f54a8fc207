"""Builds governance: every part, in order, by name. A part not built here does not exist."""

import datetime as dt
from pathlib import Path

import grpc

from governance.config import Config
from governance.events import DataEvents, dividend_paid, dividend_posted
from governance.mail import Mailer, post_of
from governance.sealing import Sealer
from governance.service import cooperatives, enactment, membership
from governance.service.ballot_box import BallotBox
from governance.service.cooperatives import GovernanceService
from governance.service.course import Course
from governance.service.enactment import ProposalService
from governance.service.mandates import MandateEvents
from governance.service.membership import MembershipService
from rochdale.billing.v1 import events_pb2 as billing_events
from rochdale.data_gateway.v1 import events_pb2 as gateway_events
from rochdale.governance.v1 import governance_pb2_grpc, membership_pb2_grpc, proposals_pb2_grpc
from rochdale.licensing.v1 import events_pb2 as licensing_events
from rochdale_kit.boundary import Boundary
from rochdale_kit.database import Database
from rochdale_kit.identity import KeySource, Sessions
from rochdale_kit.inbox import Consumer, on
from rochdale_kit.keyring import LiveKeyring, read_sealing_key
from rochdale_kit.outbox import Publisher
from rochdale_kit.server import Service, connect_nats
from rochdale_kit.telemetry import Telemetry

MIGRATIONS = Path(__file__).parent / "migrations"
# Receipts and tallies do not expire, so no key that signed one is ever forgotten.
VERIFY_RETIRED_FOR = dt.timedelta(days=36_500)


async def build(config: Config) -> Service:
    """A service ready to start."""
    telemetry = Telemetry("governance", config.otlp_endpoint, config.trace_ratio)
    database = Database(config.database_url)
    nats = await connect_nats(config.nats_url, "governance")
    identity_keys = KeySource(config.identity_address)
    sealing_key = read_sealing_key(config.sealing_key_file)
    keys = LiveKeyring(database, sealing_key, VERIFY_RETIRED_FOR)
    await keys.refresh()
    sealer = Sealer(sealing_key)

    course = Course(database, keys, sealer)
    box = BallotBox(database, sealer)
    governance = GovernanceService(database, keys)
    proposals = ProposalService(database, course, keys, box)
    members = MembershipService(database, keys)
    mandates = MandateEvents(course)
    heard = DataEvents(keys)
    mailer = Mailer(database, post_of(config.mail_smtp_url, config.mail_directory), config.mail_sender)
    licensing = Consumer(
        "governance",
        "licensing",
        [
            on(licensing_events.MandateRequested, mandates.mandate_requested),
            on(licensing_events.MandateRequestClosed, mandates.mandate_request_closed),
            on(licensing_events.LicenseAgreed, heard.license_agreed),
            on(licensing_events.LicenseActivated, heard.license_activated),
            on(licensing_events.LicenseTerminated, heard.license_terminated),
        ],
        database,
        nats,
        telemetry,
    )
    gateways = Consumer(
        "governance",
        "data_gateway",
        [
            on(gateway_events.ContributionsRecorded, heard.contributions_recorded),
            on(gateway_events.UsageRecorded, heard.usage_recorded),
        ],
        database,
        nats,
        telemetry,
    )

    billing = Consumer(
        "governance",
        "billing",
        [on(billing_events.DividendPosted, dividend_posted), on(billing_events.DividendPaid, dividend_paid)],
        database,
        nats,
        telemetry,
    )

    def register(server: grpc.aio.Server) -> None:
        governance_pb2_grpc.add_GovernanceServiceServicer_to_server(governance, server)
        proposals_pb2_grpc.add_ProposalServiceServicer_to_server(proposals, server)
        membership_pb2_grpc.add_MembershipServiceServicer_to_server(members, server)

    service = Service("governance", telemetry)
    service.serve_grpc(
        config.grpc_address,
        Boundary(
            {
                cooperatives.DESCRIPTOR: cooperatives.ACCESS,
                enactment.DESCRIPTOR: enactment.ACCESS,
                membership.DESCRIPTOR: membership.ACCESS,
            },
            Sessions(identity_keys),
            telemetry,
        ),
        register,
        config.reflection,
    )
    service.loop("identity keys", identity_keys.run)
    service.loop("keys", keys.run)
    service.loop("proposals", course.run)
    service.hear(licensing)
    service.hear(gateways)
    service.hear(billing)
    service.loop("mail", mailer.run)
    service.loop("outbox", Publisher("governance", database, nats, telemetry).run)
    service.check("database", database.check)
    service.check("identity keys", identity_keys.check)
    service.check_nats(nats)
    service.close(database.close)
    service.close(nats.close)
    return service
