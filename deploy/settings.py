"""Holds the variables a manifest sets against the settings its service reads: none unknown, none missing.

A service ignores a variable it does not know, so a misspelled optional setting would never be noticed by running it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from pydantic_settings import BaseSettings

from deploy.fit import containers

Object = dict[str, Any]


def config_of(service: str) -> type[BaseSettings] | None:
    """The settings class in a service's config.py; None while it has none."""
    package = service.replace("-", "_")
    try:
        module = importlib.import_module(f"{package}.config")
    except ModuleNotFoundError as error:
        if error.name not in (package, f"{package}.config"):
            raise
        return None
    for found in vars(module).values():
        own = isinstance(found, type) and issubclass(found, BaseSettings) and found.__module__ == module.__name__
        if own and found.model_config.get("env_prefix"):
            return found  # type: ignore[no-any-return]
    return None


def variables(objects: list[Object], container: Object) -> set[str]:
    """The names of the variables a container is given."""
    maps = {found["metadata"]["name"]: found for found in objects if found["kind"] == "ConfigMap"}
    names = {variable["name"] for variable in container.get("env", [])}
    for source in container.get("envFrom", []):
        data = maps.get(source["configMapRef"]["name"], {}).get("data", {})
        names |= {source.get("prefix", "") + key for key in data}
    return names


def settings_problems(objects: list[Object], members: list[str]) -> Iterator[str]:
    workloads = {
        found["metadata"]["name"]: found for found in objects if found["kind"] in ("Deployment", "StatefulSet")
    }
    for member in members:
        config = config_of(member)
        if config is None:
            yield f"The service {member} has no settings class in its config.py."
            continue
        prefix = config.model_config["env_prefix"].upper()
        known = {prefix + name.upper(): field for name, field in config.model_fields.items()}
        required = {name for name, field in known.items() if field.is_required()}
        workload = workloads.get(f"rochdale-{member}")
        for container in containers(workload) if workload else []:
            given = variables(objects, container)
            where = f"{member}, container {container['name']}"
            yield from (f"{where}: {name} is no setting of it." for name in sorted(given - known.keys()))
            yield from (f"{where}: the setting {name} is missing." for name in sorted(required - given))
