"""Builds a data gateway: every part, in order, by name. A part not built here does not exist."""

import logging
from pathlib import Path

from data_gateway.broker import Broker, Registration
from data_gateway.config import Config, read_key, read_secret, rows_key
from data_gateway.consents import Consents
from data_gateway.contributions import Contributions
from data_gateway.cooperative_key import OwnKeys
from data_gateway.doors.app import build_app
from data_gateway.doors.delta import DeltaSharing
from data_gateway.doors.files import FileDoor
from data_gateway.doors.reading import Reading
from data_gateway.doors.sending import Sender
from data_gateway.doors.uploads import UploadDoor
from data_gateway.doors.withdrawals import WithdrawalDoor
from data_gateway.enforcement import Enforcement
from data_gateway.events import BrokerEvents, GovernanceEvents
from data_gateway.feed import TrustFeed
from data_gateway.governance import Governance, Licensing, Proof
from data_gateway.grants import Grants
from data_gateway.intake import Intake
from data_gateway.keys import RemoteKeys
from data_gateway.revocations import Revocations
from data_gateway.rules import RuleMemory
from data_gateway.service import ACCESS, DESCRIPTOR, DataGatewayService
from data_gateway.shelf import Shelf
from data_gateway.storage import Storage
from data_gateway.streams import LiveStreams
from data_gateway.usage import UsageMeter
from data_gateway.withdrawals import Withdrawals
from rochdale.access_broker.v1 import events_pb2 as broker_events
from rochdale.data_gateway.v1 import data_gateway_pb2_grpc
from rochdale.governance.v1 import events_pb2 as governance_events
from rochdale_kit.boundary import Boundary
from rochdale_kit.database import Database
from rochdale_kit.identity import Credentials, KeySource, Sessions
from rochdale_kit.inbox import Consumer, on
from rochdale_kit.outbox import Publisher
from rochdale_kit.server import Service, connect_nats
from rochdale_kit.telemetry import Telemetry

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


async def build(config: Config) -> Service:
    """A service ready to start."""
    own, url = config.cooperative, config.public_url
    pseudonym_key, url_key = read_key(config.pseudonym_key_file), read_key(config.url_key_file)
    telemetry = Telemetry("data_gateway", config.otlp_endpoint, config.trace_ratio)
    credentials = Credentials(config.identity_address, read_secret(config.api_key_file))
    database = Database(config.database_url)
    nats = await connect_nats(config.nats_url, f"data_gateway {own}")
    identity_keys = KeySource(config.identity_address)
    sessions = Sessions(identity_keys)

    kept = config.storage_directory
    broker = Broker(config.broker_address, credentials)
    broker_keys = RemoteKeys("broker", broker.key_set, kept / "broker_keys.json")
    licensing = Licensing(config.licensing_address)
    licensing_keys = RemoteKeys("licensing", licensing.key_set, kept / "licensing_keys.json")
    governance = Governance(config.governance_address, own, credentials)
    own_keys = OwnKeys(own, config.cooperative_key, kept / "cooperative_key.json")
    for keys in (broker_keys, licensing_keys, own_keys):
        keys.load()

    # Its lock is held until the process ends, or the service is closed.
    storage = Storage(kept)
    consents = Consents(own, pseudonym_key, storage)
    rules = RuleMemory(own, own_keys)
    grants = Grants(own, own_keys, licensing_keys, broker_keys, rules)
    revocations = Revocations(grants)
    async with database.read() as connection:
        await rules.load(connection)
        await consents.load(connection)
        await grants.load(connection)
        await revocations.load(connection)
    feed = TrustFeed(own, database, nats, broker, broker_keys, grants, revocations, config.feed_silence_seconds)
    registration = Registration(broker, url)
    proof = Proof(database, governance, own_keys, rules, consents, grants, revocations.grant)
    heard = BrokerEvents(own, grants, revocations)
    decided = GovernanceEvents(own_keys, rules, grants, consents)
    # Each cooperative's gateway under a name of its own: under one they would take turns at the events.
    name = f"data_gateway_{own}"
    from_broker = Consumer(
        name,
        "access_broker",
        [on(broker_events.GrantOpened, heard.grant_opened), on(broker_events.AccessRevoked, heard.access_revoked)],
        database,
        nats,
        telemetry,
    )
    from_governance = Consumer(
        name,
        "governance",
        [
            on(governance_events.CooperativeCreated, decided.cooperative_created),
            on(governance_events.CooperativeKeyAdded, decided.cooperative_key_added),
            on(governance_events.RuleEnacted, decided.rule_enacted),
            on(governance_events.RuleNarrowed, decided.rule_narrowed),
            on(governance_events.ConsentRecorded, decided.consent_recorded),
            on(governance_events.ConsentWithdrawn, decided.consent_withdrawn),
            on(governance_events.MemberErased, decided.member_erased),
        ],
        database,
        nats,
        telemetry,
    )

    intake = Intake(database, storage, pseudonym_key)
    shelf = Shelf(database, storage)
    enforcement = Enforcement(own, url, broker_keys, feed, own_keys, grants, revocations)
    streams = LiveStreams()

    usage = UsageMeter(database)
    reading = Reading(enforcement, shelf, consents)
    files = FileDoor(reading, Sender(reading, streams, usage), usage, own, url, url_key)
    delta = DeltaSharing(reading, usage, own, url, url_key)

    def look_again() -> None:
        enforcement.forget()
        files.forget()
        streams.sweep()

    def prove_again() -> None:
        look_again()
        proof.wake()

    revocations.on_change = grants.on_change = look_again
    own_keys.on_change = licensing_keys.on_change = broker_keys.on_change = rules.on_change = prove_again
    uploads = UploadDoor(database, storage, intake, sessions, own)
    contributions = Contributions(database, storage, rows_key(pseudonym_key))
    withdrawals = Withdrawals(database, storage, intake, shelf, consents, config.withdrawal_version_seconds)
    stewards = DataGatewayService(database, storage, intake, contributions, own, url)

    def consent_changed() -> None:
        look_again()
        contributions.wake()
        withdrawals.wake()

    def version_changed() -> None:
        look_again()
        contributions.wake()

    consents.on_change, withdrawals.on_change = consent_changed, version_changed
    contributions.on_change = withdrawals.wake

    log.info("a withdrawal becomes a version after %d seconds", config.withdrawal_version_seconds)
    service = Service("data_gateway", telemetry)
    service.serve_grpc(
        config.grpc_address,
        Boundary({DESCRIPTOR: ACCESS}, sessions, telemetry),
        lambda server: data_gateway_pb2_grpc.add_DataGatewayServiceServicer_to_server(stewards, server),
        config.reflection,
    )
    service.serve_http(
        config.http_address,
        build_app(
            service,
            telemetry,
            uploads,
            files,
            WithdrawalDoor(enforcement, database),
            delta,
            config.withdrawal_version_seconds,
        ),
    )
    service.loop("identity keys", identity_keys.run)
    service.loop("broker keys", broker_keys.run)
    service.loop("licensing keys", licensing_keys.run)
    service.loop("feed", feed.run)
    service.loop("proof", proof.run)
    service.hear(from_broker)
    service.hear(from_governance)
    service.loop("registration", lambda: registration.run(config.control_address or service.grpc_address))
    service.loop("intake", intake.run)
    service.loop("contributions", contributions.run)
    service.loop("withdrawals", withdrawals.run)
    service.loop("shelf", shelf.run)
    service.loop("streams", streams.run)
    service.loop("usage", usage.run)
    service.loop("outbox", Publisher("data_gateway", database, nats, telemetry).run)
    service.check("database", database.check)
    service.check("identity keys", identity_keys.check)
    service.check("feed", feed.check)
    service.check("cooperative's key", own_keys.check)
    service.check("consents", consents.check)
    service.check_nats(nats)
    service.close(database.close)
    service.close(nats.close)
    service.close(broker.close)
    service.close(governance.close)
    service.close(licensing.close)
    service.close(storage.close)
    service.close(shelf.close)
    service.close(usage.close)
    return service
