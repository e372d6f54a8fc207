"""How the objects of one overlay fit together: services and pods, policies and callers, names and references.

Each problem is one sentence. What one object must be by itself is in deploy/check.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
NAME = "app.kubernetes.io/name"
WORKLOADS = ("Deployment", "StatefulSet")
# Services without a database and without gRPC: nothing to migrate, and asked over HTTP whether they are well.
PAGES_ONLY = {"storefront"}


def fit_problems(objects: list[Object], members: list[str]) -> Iterator[str]:
    workloads = {found["metadata"]["labels"][NAME]: found for found in objects if found["kind"] in WORKLOADS}
    yield from _members_are_there(objects, workloads, members)
    yield from _references_resolve(objects, workloads)
    yield from _nobody_is_reachable_by_default(objects, workloads)
    yield from _both_ends_agree(objects, workloads)


def containers(workload: Object) -> list[Object]:
    """The containers of a workload, those that run before it too."""
    pod = workload["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def _of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def _selects(selector: Object, labels: Object) -> bool:
    """Whether a label selector chooses an object with these labels. An empty one chooses everything."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for rule in selector.get("matchExpressions", []):
        inside = labels.get(rule["key"]) in rule["values"]
        if {"In": inside, "NotIn": not inside}[rule["operator"]] is False:
            return False
    return True


def _labels(workload: Object) -> Object:
    labels: Object = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def _members_are_there(objects: list[Object], workloads: dict[str, Object], members: list[str]) -> Iterator[str]:
    for member in members:
        workload = workloads.get(member)
        if workload is None:
            yield f"The service {member} has no workload."
            continue
        package = member.replace("-", "_")
        pod = workload["spec"]["template"]["spec"]
        before = [] if member in PAGES_ONLY else [[package, "migrate"]]
        if [each["args"] for each in pod.get("initContainers", [])] != before:
            yield f"The service {member} does not migrate its database before it starts."
        if pod["containers"][0].get("args") != [package]:
            yield f"The service {member} does not start python -m {package}."
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            way, called = ("httpGet", "HTTP") if member in PAGES_ONLY else ("grpc", "gRPC")
            if way not in pod["containers"][0].get(probe, {}):
                yield f"The service {member} is not asked over {called} by its {probe}."
        if workload["spec"]["replicas"] > 1 and not any(
            _selects(budget["spec"]["selector"], _labels(workload))
            for budget in _of_kind(objects, "PodDisruptionBudget").values()
        ):
            yield f"The service {member} has several replicas and no disruption budget."


def _references_resolve(objects: list[Object], workloads: dict[str, Object]) -> Iterator[str]:
    accounts, maps, doors = (_of_kind(objects, kind) for kind in ("ServiceAccount", "ConfigMap", "Service"))
    for name, workload in workloads.items():
        pod = workload["spec"]["template"]["spec"]
        if pod.get("serviceAccountName") not in accounts:
            yield f"{name} runs under an account that is not there: {pod.get('serviceAccountName')}."
        wanted = [source["configMapRef"]["name"] for each in containers(workload) for source in each.get("envFrom", [])]
        wanted += [volume["configMap"]["name"] for volume in pod.get("volumes", []) if "configMap" in volume]
        yield from (f"{name} reads {missing}, which is not there." for missing in sorted(set(wanted) - maps.keys()))
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for each in containers(workload) for mount in each.get("volumeMounts", [])}
        yield from (f"{name} mounts {missing}, which is no volume of it." for missing in sorted(mounted - volumes))
        yield from (f"{name} has a volume {unused} that nothing mounts." for unused in sorted(volumes - mounted))
    for name, door in doors.items():
        behind = [
            found for found in workloads.values() if _selects({"matchLabels": door["spec"]["selector"]}, _labels(found))
        ]
        if len(behind) != 1:
            yield f"Service {name} leads to {len(behind)} workloads."
            continue
        named = {port["name"] for each in behind[0]["spec"]["template"]["spec"]["containers"] for port in each["ports"]}
        for port in door["spec"]["ports"]:
            if port["targetPort"] not in named:
                yield f"Service {name} leads to port {port['targetPort']}, which its pods do not have."
    # An address in a setting is a Service's name and port, or nobody answers.
    known = {f"{name}:{port['port']}" for name, door in doors.items() for port in door["spec"]["ports"]}
    values = [
        variable.get("value", "")
        for found in workloads.values()
        for each in containers(found)
        for variable in each.get("env", [])
    ]
    values += [value for found in maps.values() for value in found.get("data", {}).values()]
    for value in sorted(set(values)):
        if re.fullmatch(r"rochdale-[a-z-]+:\d+", value) and value not in known:
            yield f"The address {value} leads to no Service."


def _nobody_is_reachable_by_default(objects: list[Object], workloads: dict[str, Object]) -> Iterator[str]:
    policies = _of_kind(objects, "NetworkPolicy").values()
    both = [policy["spec"] for policy in policies if set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}]
    if not any(not spec["podSelector"] and not spec.get("ingress") and not spec.get("egress") for spec in both):
        yield "No policy closes the namespace to everything that is not allowed."
    for name, workload in workloads.items():
        own = [spec for spec in both if spec["podSelector"] and _selects(spec["podSelector"], _labels(workload))]
        if not own:
            yield f"{name} has no network policy of its own."


def _both_ends_agree(objects: list[Object], workloads: dict[str, Object]) -> Iterator[str]:
    """Who may call whom, as the caller's policies say it and as the called one's do."""
    said: dict[str, set[tuple[str, str]]] = {"ingress": set(), "egress": set()}
    for policy in _of_kind(objects, "NetworkPolicy").values():
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction) or []:
                for peer in rule.get(peers, []):
                    if "podSelector" not in peer:
                        continue
                    own = {
                        name
                        for name, found in workloads.items()
                        if _selects(policy["spec"]["podSelector"], _labels(found))
                    }
                    other = {name for name, found in workloads.items() if _selects(peer["podSelector"], _labels(found))}
                    if not other:
                        yield f"{policy['metadata']['name']} names a peer that is not there: {peer['podSelector']}."
                    pairs = {
                        (theirs, mine) if direction == "ingress" else (mine, theirs) for mine in own for theirs in other
                    }
                    said[direction] |= {(caller, callee) for caller, callee in pairs if caller != callee}
    for caller, callee in sorted(said["ingress"] - said["egress"]):
        yield f"{callee} lets {caller} in, which may not go there."
    for caller, callee in sorted(said["egress"] - said["ingress"]):
        yield f"{caller} may go to {callee}, which does not let it in."
