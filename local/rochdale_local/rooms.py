"""Which services make up the market on one machine, and the settings each is given. It starts nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rochdale.client.keys import make_secret, read_key_file
from rochdale.client.refusals import MarketError
from rochdale_local.nats import NatsServer
from rochdale_local.postgres import Postgres
from rochdale_local.processes import CannotStart, kept_password, kept_port, private_folder, write_private

# In the order they start: nobody is started before those whose answers it needs.
PACKAGES = ["identity", "governance", "catalog", "licensing", "billing", "access_broker", "storefront"]
GATEWAY = "data_gateway"
# Whose service is not the owner of its database, so that it cannot change what was posted.
SERVED_BY_ANOTHER_ROLE = ("billing",)
# How often billing looks for what is due, by several names.
_ROUNDS = ("round_seconds", "sweep_seconds", "account_check_seconds")


@dataclass(frozen=True)
class Room:
    """One service to run: its package, its own name (a gateway's has its cooperative in it), its settings."""

    package: str
    name: str
    settings: dict[str, str]
    grpc_address: str = ""
    http_address: str = ""
    database: str = ""
    # Empty where the service is the owner of its database.
    application_role: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def environ(self) -> dict[str, str]:
        """The settings as environment variables of a process of its own."""
        prefix = self.package.upper()
        return {**os.environ, **{f"{prefix}_{name.upper()}": value for name, value in self.settings.items()}}


@dataclass(frozen=True)
class Options:
    """What the person who starts a market may choose."""

    stripe_test_key: str = ""
    otlp_endpoint: str = ""
    log_level: str = "WARNING"
    withdrawal_version_seconds: int = 259_200
    rehearsal: bool = False


class Rooms:
    """The plan of one market: ports, passwords and keys are kept in its home, so that a restart finds the same ones."""

    def __init__(self, home: Path, options: Options) -> None:
        self.home = home
        self.options = options
        for folder in ("keys", "ports", "passwords", "index", "gateways"):
            private_folder(home / folder)
        self.operator_key_file = home / "keys" / "operator.key"
        self._addresses = {package: self._address(f"{package}-grpc") for package in PACKAGES if package != "storefront"}
        self._http = {
            "billing": self._address("billing-http"),
            "storefront": self._address("storefront-http"),
            "stripe": self._address("stripe-http"),
        }

    @property
    def stripe_address(self) -> str:
        return self._http["stripe"]

    @property
    def stripe_url(self) -> str:
        """The simulator's address; empty when a real Stripe test account is used."""
        return "" if self.options.stripe_test_key else f"http://{self.stripe_address}"

    @property
    def webhook_url(self) -> str:
        return f"http://{self._http['billing']}/webhooks/stripe"

    @property
    def connect_webhook_url(self) -> str:
        return f"{self.webhook_url}-connect"

    @property
    def connect_webhook_secret(self) -> str:
        return "whsec_" + kept_password(self.home / "keys" / "stripe-connect-webhook.secret")

    @property
    def webhook_secret(self) -> str:
        return "whsec_" + kept_password(self.home / "keys" / "stripe-webhook.secret")

    def address(self, package: str) -> str:
        """Where a service answers gRPC."""
        return self._addresses[package]

    @property
    def storefront_url(self) -> str:
        return f"http://{self._http['storefront']}"

    def rooms(self, postgres: Postgres, nats: NatsServer) -> list[Room]:
        """Every service of the market but the gateways, which come with their cooperatives."""
        makers: dict[str, Callable[[], dict[str, str]]] = {
            "identity": self._identity,
            "governance": lambda: {
                "sealing_key_file": self._random_file("governance.sealing"),
                # A laptop has no mail server; what members would get lies here.
                "mail_directory": str(private_folder(self.home / "mail")),
            },
            "catalog": lambda: {"index_directory": str(private_folder(self.home / "index"))},
            "licensing": lambda: {"sealing_key_file": self._random_file("licensing.sealing")},
            "billing": self._billing,
            "access_broker": lambda: {
                "sealing_key_file": self._random_file("access_broker.sealing"),
                "governance_address": self.address("governance"),
                "catalog_address": self.address("catalog"),
                "licensing_address": self.address("licensing"),
            },
            "storefront": lambda: {
                "http_address": self._http["storefront"],
                "catalog_address": self.address("catalog"),
                "governance_address": self.address("governance"),
                "identity_address": self.address("identity"),
                "licensing_address": self.address("licensing"),
                "billing_address": self.address("billing"),
                "public_url": self.storefront_url,
            },
        }
        rooms = []
        for package in PACKAGES:
            settings = {"log_level": self.options.log_level, "otlp_endpoint": self.options.otlp_endpoint}
            if package != "storefront":
                settings |= self._server_settings(package, package, postgres, nats)
            settings |= makers.get(package, dict)()
            rooms.append(
                Room(
                    package,
                    package,
                    settings,
                    grpc_address=settings.get("grpc_address", ""),
                    http_address=self._http.get(package, ""),
                    database=package if package != "storefront" else "",
                    application_role=_application_role(package),
                )
            )
        return rooms

    def gateway(self, cooperative: str, postgres: Postgres, nats: NatsServer) -> Room:
        """The gateway of one cooperative, with a folder of its own that would stand in that cooperative's building."""
        folder = private_folder(self.home / "gateways" / cooperative)
        http = self._address(f"gateway-{cooperative}-http")
        database = f"{GATEWAY}_{cooperative.replace('-', '_')}"
        if (folder / "storage").exists():
            for name in ("gateway.key", "pseudonym.key"):
                # A new one would be taken without a word, and a member's new rows would no longer meet the old ones.
                if not (folder / name).exists():
                    raise CannotStart(
                        f"{folder / name} is missing, and this gateway has data; restore it from a backup."
                    )
        self.gateway_secret(cooperative)
        pseudonym_key_file = self._random_file("pseudonym", folder)
        settings = {
            "log_level": self.options.log_level,
            "otlp_endpoint": self.options.otlp_endpoint,
            **self._server_settings(database, f"gateway-{cooperative}", postgres, nats),
            "cooperative": cooperative,
            "withdrawal_version_seconds": str(self.options.withdrawal_version_seconds),
            "http_address": http,
            "public_url": f"http://{http}",
            "storage_directory": str(private_folder(folder / "storage")),
            "pseudonym_key_file": pseudonym_key_file,
            "url_key_file": self._random_file("url", folder),
            "api_key_file": str(folder / "gateway.key"),
            "broker_address": self.address("access_broker"),
            "governance_address": self.address("governance"),
            "licensing_address": self.address("licensing"),
        }
        return Room(
            GATEWAY,
            f"gateway-{cooperative}",
            settings,
            grpc_address=settings["grpc_address"],
            http_address=http,
            database=database,
        )

    def gateway_secret(self, cooperative: str) -> str:
        """The API key of a cooperative's gateway, made on its first start."""
        return _kept_secret(self.home / "gateways" / cooperative / "gateway.key")

    def operator_secret(self) -> str:
        """The operator's key, made on the first start."""
        return _kept_secret(self.operator_key_file)

    def document(self) -> dict[str, object]:
        """What market.json says, for the rochdale command."""
        return {
            "version": 1,
            "services": dict(self._addresses),
            "storefront": self.storefront_url,
            "stripe": self.stripe_url or None,
            "rehearsal": self.options.rehearsal,
            "operator_key_file": str(self.operator_key_file),
        }

    def _identity(self) -> dict[str, str]:
        return {
            "sealing_key_file": self._random_file("identity.sealing"),
            "operator_key_hash": hashlib.sha256(self.operator_secret().encode()).hexdigest(),
        }

    def _billing(self) -> dict[str, str]:
        return {
            "http_address": self._http["billing"],
            "public_url": f"http://{self._http['billing']}",
            "stripe_api_key": self.options.stripe_test_key or "sk_test_simulator",
            "stripe_webhook_secret": self.webhook_secret,
            "stripe_connect_webhook_secret": self.connect_webhook_secret,
            "stripe_api_base": self.stripe_url,
            # In a rehearsal a month passes in a moment, and nobody waits for the next round.
            **(dict.fromkeys(_ROUNDS, "0.3") if self.options.rehearsal else {}),
        }

    def _server_settings(self, database: str, name: str, postgres: Postgres, nats: NatsServer) -> dict[str, str]:
        role = _application_role(database) or database
        settings = {
            "database_url": postgres.dsn(database, role, self.password(role)),
            "nats_url": nats.url(),
            "grpc_address": self._addresses.get(name) or self._address(f"{name}-grpc"),
        }
        if name != "identity":
            settings["identity_address"] = self.address("identity")
        return settings

    def password(self, role: str) -> str:
        """Of a role of PostgreSQL. A database's owner has its name."""
        return kept_password(self.home / "passwords" / f"{role}.postgres")

    def _address(self, name: str) -> str:
        return f"127.0.0.1:{kept_port(self.home / 'ports' / name, 0)}"

    def _random_file(self, name: str, folder: Path | None = None) -> str:
        path = (folder or self.home / "keys") / f"{name}.key"
        if not path.exists():
            write_private(path, os.urandom(32))
        return str(path)


def _application_role(database: str) -> str:
    return f"{database}_service" if database in SERVED_BY_ANOTHER_ROLE else ""


def _kept_secret(path: Path) -> str:
    """The API key in this file, made on first use; a damaged one is never replaced, because the market knows it."""
    if not path.exists():
        write_private(path, make_secret() + "\n")
    try:
        return read_key_file(path)
    except MarketError as error:
        raise CannotStart(f"{error.message} Restore it from a backup.") from None
