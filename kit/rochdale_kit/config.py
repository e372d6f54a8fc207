"""Settings every service shares, and how a wrong one stops the start with a sentence."""

from __future__ import annotations

import sys
from typing import TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError


class ProcessConfig(BaseSettings):
    """What every process needs, also one without a database. A subclass sets env_prefix; see ServiceConfig."""

    model_config = SettingsConfigDict(extra="forbid", hide_input_in_errors=True)

    otlp_endpoint: str = Field("", description="gRPC address of an OpenTelemetry collector; empty sends no traces.")
    trace_ratio: float = Field(1.0, ge=0, le=1, description="Share of traces started here that are recorded.")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")


class ServiceConfig(ProcessConfig):
    """What every service needs. A subclass sets env_prefix; settings come from the environment."""

    database_url: str = Field(description="postgresql+asyncpg://user:password@host:port/database")
    application_role: str = Field(
        "",
        description="For migrate, run as the owner: the role that serves, which it gives its rights; empty for none.",
    )
    nats_url: str = Field(description="nats://user:password@host:port")
    grpc_address: str = Field("127.0.0.1:0", description="Where to listen for gRPC, host:port; port 0 picks one.")
    identity_address: str = Field("", description="gRPC address of identity, host:port.")
    reflection: bool = Field(False, description="Answer gRPC reflection; off in production.")

    @field_validator("database_url")
    @classmethod
    def _asyncpg(cls, value: str) -> str:
        if not value.startswith("postgresql+asyncpg://"):
            raise ValueError("must start with postgresql+asyncpg://")
        return value

    @field_validator("nats_url")
    @classmethod
    def _nats(cls, value: str) -> str:
        if not value.startswith(("nats://", "tls://")):
            raise ValueError("must start with nats:// or tls://")
        return value


C = TypeVar("C", bound=BaseSettings)


def load(config: type[C]) -> C:
    """Reads a config from the environment, or prints one sentence a setting and exits with status 2."""
    prefix = str(config.model_config.get("env_prefix", "")).upper()
    try:
        return config()
    except ValidationError as error:
        for problem in error.errors():
            name = prefix + "_".join(str(part) for part in problem["loc"]).upper() if problem["loc"] else prefix + "*"
            told = problem["msg"].removeprefix("Value error, ")
            what = "is not set" if problem["type"] == "missing" else f"is wrong: {told}"
            field = config.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
            hint = f" ({field.description})" if field is not None and field.description else ""
            sys.stderr.write(f"{name} {what}.{hint}\n")
        raise SystemExit(2) from None
    except SettingsError as error:
        # A list or a table that is no JSON; the message names the setting and not its value.
        sys.stderr.write(f"A setting of {prefix}* is wrong: {error}.\n")
        raise SystemExit(2) from None
