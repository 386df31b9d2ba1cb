"""What KubeRay adds to a RayCluster, and what it refuses: read in its source, met with operators 1.6.0 and 1.6.2."""

from typing import Any

METRICS_PORT = ("metrics", 8080)
"""Name and number of a port that the head's Service gets where no port of the head's container has the name
(``ray-operator/controllers/ray/common/service.go``, ``getServicePorts``)."""


def groups(cluster: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return (name, spec) of the head's group and of each group of workers."""
    spec = cluster["spec"]
    return [("head", spec["headGroupSpec"]), *((group["groupName"], group) for group in spec["workerGroupSpecs"])]


def head_service_ports(cluster: dict[str, Any]) -> list[tuple[str, int]]:
    """Return (name, number) of each port of the Service that KubeRay makes for the head."""
    container = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    ports = [(port["name"], port["containerPort"]) for port in container["ports"]]
    return ports if METRICS_PORT[0] in dict(ports) else [*ports, METRICS_PORT]


def refusals(cluster: dict[str, Any]) -> list[str]:
    """Return why KubeRay makes no pod (``utils/validation.go``, ``validateWorkerGroupIdleTimeout``), or no Service."""
    found = []
    if cluster["spec"]["autoscalerOptions"].get("version") != "v2":
        found += [
            f"group {name}: idleTimeoutSeconds without version 2 of the autoscaler"
            for name, group in groups(cluster)
            if "idleTimeoutSeconds" in group
        ]
    numbers = [number for _, number in head_service_ports(cluster)]
    found += [f"the head's Service has port {number} twice" for number in {n for n in numbers if numbers.count(n) > 1}]
    return found
