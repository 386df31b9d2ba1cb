"""What a real API server and KubeRay's operator asked of the manifests, as rules over what every overlay builds to."""

import copy
import re
import shlex
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.settings.sections import PoolSettings
from tests.ops import kuberay
from tests.ops.support import K8S, OVERLAYS, ROOT, build, find, load_yaml, name_of, needs

pytestmark = needs("kubectl", "yaml")

PROD = K8S / "overlays" / "prod"
MONITORED = [path for path in OVERLAYS if path.name != "dev"]

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS, ids=name_of)
each_monitored = pytest.mark.parametrize("overlay", MONITORED, ids=name_of)

UNITS = {"Mi": 2**20, "Gi": 2**30}
EXTRAS_OF_SCHEMES = {"": set(), "s3": set(), "oss": {"oss"}}


def service_pod(overlay: Path) -> dict[str, Any]:
    return find(build(overlay), "StatefulSet", "sluice")["spec"]["template"]["spec"]


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in [*pod.get("initContainers", []), *pod["containers"]] if item["name"] == name)


def templates(overlay: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return (name, pod template) of the service and of every group of Ray."""
    found = [("service", find(build(overlay), "StatefulSet", "sluice")["spec"]["template"])]
    for item in build(overlay):
        if item["kind"] == "RayCluster":
            found += [(name, group["template"]) for name, group in kuberay.groups(item)]
    return found


def settings_of(overlay: Path) -> dict[str, Any]:
    config = next(
        item
        for item in build(overlay)
        if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith("sluice-config")
    )
    return tomllib.loads(config["data"]["sluice.toml"])


def size(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:]]


@each_monitored
def test_kuberay_makes_pods_and_the_heads_service(overlay: Path) -> None:
    assert kuberay.refusals(find(build(overlay), "RayCluster", "sluice-ray")) == []


def test_rules_of_kuberay_find_what_it_refused() -> None:
    cluster = copy.deepcopy(find(build(PROD), "RayCluster", "sluice-ray"))
    cluster["spec"]["workerGroupSpecs"][0]["idleTimeoutSeconds"] = 600
    ports = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    next(port for port in ports if port["name"] == "metrics")["name"] = "ray-metrics"
    assert kuberay.refusals(cluster) == [
        "group cpu: idleTimeoutSeconds without version 2 of the autoscaler",
        "the head's Service has port 8080 twice",
    ]


@each_monitored
def test_every_port_of_metrics_is_scraped_once_and_let_in(overlay: Path) -> None:
    ports = {
        (name, port["containerPort"])
        for name, template in templates(overlay)
        for item in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
        for port in item.get("ports", ())
        if port["name"].endswith("metrics")
    }
    assert len(ports) == 5, "service, its Ray node, head and two groups of workers"
    assert Counter(scraped(overlay)) == Counter(ports)
    for name, port in ports:
        assert port in ports_open_to_prometheus(overlay, dict(templates(overlay))[name]["metadata"]["labels"])


def scraped(overlay: Path) -> list[tuple[str, int]]:
    found = []
    for monitor in build(overlay):
        spec = monitor.get("spec", {})
        if monitor["kind"] == "PodMonitor":
            wanted = {endpoint["port"] for endpoint in spec["podMetricsEndpoints"]}
            found += [
                (name, port["containerPort"])
                for name, template in templates(overlay)
                if spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
                for item in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
                for port in item.get("ports", ())
                if port["name"] in wanted
            ]
        if monitor["kind"] == "ServiceMonitor":
            wanted = {endpoint["port"] for endpoint in spec["endpoints"]}
            found += [
                (name, port["port"])
                for service in build(overlay)
                if service["kind"] == "Service"
                and spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
                for name, template in templates(overlay)
                if service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
                for port in service["spec"]["ports"]
                if port["name"] in wanted
            ]
    return found


def ports_open_to_prometheus(overlay: Path, labels: dict[str, str]) -> set[int]:
    return {
        port["port"]
        for policy in build(overlay)
        if policy["kind"] == "NetworkPolicy"
        and policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()
        for rule in policy["spec"].get("ingress", ())
        for source in rule["from"]
        if source["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name") == "prometheus"
        for port in rule["ports"]
    }


@each_monitored
def test_service_sees_the_processes_of_its_ray_node_and_reaps_none_of_its_own(overlay: Path) -> None:
    pod = service_pod(overlay)
    assert container(pod, "ray-node")["restartPolicy"] == "Always"
    assert pod["shareProcessNamespace"], "Ray finds the node of its machine among the processes"
    entrypoint = re.search(r'^ENTRYPOINT \["tini", (.*)\]$', (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert entrypoint is not None
    assert '"-s"' in entrypoint[1], "tini is not the first process of such a pod"


@each_monitored
def test_ray_node_is_started_when_it_has_joined_and_not_when_the_head_answers(overlay: Path) -> None:
    probe = shlex.join(container(service_pod(overlay), "ray-node")["startupProbe"]["exec"]["command"])
    assert "http://localhost:52365/api/local_raylet_healthz" in probe


@each_overlay
def test_tables_are_made_before_the_service_starts_with_its_settings_and_keys(overlay: Path) -> None:
    pod = service_pod(overlay)
    first, service = container(pod, "init-tables"), container(pod, "sluice")
    assert "restartPolicy" not in first
    assert first["image"] == service["image"]
    command = " ".join(first["command"])
    config = service["args"][service["args"].index("--config") + 1]
    assert f"sluice init --config {config}" in command
    assert catalog_options(first) == catalog_options(service)
    warehouse = settings_of(overlay)["catalog"]["warehouse"]
    if "://" in warehouse:
        assert catalog_options(first), "an object store wants keys"
        return
    assert f"mkdir -p {warehouse}" in command
    mounts = [{mount["mountPath"] for mount in item["volumeMounts"]} for item in (first, service)]
    assert all(any(Path(warehouse).is_relative_to(path) for path in paths if path != "/") for paths in mounts)


def catalog_options(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in item["env"] if entry["name"] == "SLUICE_CATALOG__OPTIONS"]


@each_overlay
def test_image_has_the_client_of_every_store_that_the_overlay_names(overlay: Path) -> None:
    settings = settings_of(overlay)
    places = [settings["catalog"]["warehouse"], *settings["input"]["allow"]]
    wanted = set().union(*(EXTRAS_OF_SCHEMES[urlsplit(place).scheme] for place in places))
    variants = re.findall(r'^ENV EXTRAS="(.*)"$', (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(variants) == 2
    for extras in variants:
        assert wanted <= set(extras.strip("[]").split(","))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert wanted <= set(known)


def test_documented_keys_of_oss_are_those_that_the_client_takes() -> None:
    text = (ROOT / "docs" / "install-kubernetes.md").read_text()
    for option in ("fs.oss.impl", "fs.oss.endpoint", "fs.oss.accessKeyId", "fs.oss.accessKeySecret"):
        assert f'"{option}"' in text
    assert "oss:GetBucketVersioning" in text


def test_applying_again_leaves_the_number_of_pods_to_the_autoscaler() -> None:
    autoscaled = find(build(K8S / "overlays" / "prod-autoscaled"), "StatefulSet", "sluice")
    assert "replicas" not in autoscaled["spec"]
    assert find(build(PROD), "StatefulSet", "sluice")["spec"]["replicas"] == 1


@each_overlay
def test_deleting_an_overlay_deletes_no_namespace_no_volume_and_no_secret(overlay: Path) -> None:
    kinds = {item["kind"] for item in build(overlay)}
    assert not kinds & {"Namespace", "PersistentVolumeClaim", "Secret"}
    space = find(build(overlay), "StatefulSet", "sluice")["metadata"]["namespace"]
    namespace = load_yaml(K8S / "namespaces" / f"{space}.yaml")
    assert namespace["metadata"]["name"] == space
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@each_overlay
def test_object_stores_of_ray_fit_into_shared_memory(overlay: Path) -> None:
    pod = service_pod(overlay)
    stores = []
    for item in build(overlay):
        if item["kind"] == "RayCluster":
            stores += [
                (name, int(group["rayStartParams"]["object-store-memory"]), shared_memory(group["template"]["spec"]))
                for name, group in kuberay.groups(item)
            ]
    if any(item["name"] == "ray-node" for item in pod["initContainers"]):
        command = " ".join(container(pod, "ray-node")["command"])
        stores.append(("ray-node", int(re.findall(r"--object-store-memory=(\d+)", command)[0]), shared_memory(pod)))
    else:
        embedded = settings_of(overlay)["pool"].get("object_store_bytes", PoolSettings().object_store_bytes)
        stores.append(("embedded", int(embedded), shared_memory(pod)))
    for name, wanted, volume in stores:
        assert wanted < volume, f"{name}: {wanted} bytes in a volume of {volume}"


def shared_memory(pod: dict[str, Any]) -> int:
    return size(next(item for item in pod["volumes"] if item["name"] == "shm")["emptyDir"]["sizeLimit"])


@each_overlay
def test_names_are_resolved_through_a_cache_on_the_node_too(overlay: Path) -> None:
    policy = find(build(overlay), "NetworkPolicy", "dns")
    (rule,) = policy["spec"]["egress"]
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]


@each_overlay
def test_every_pod_has_a_disruption_budget_that_a_broken_pod_does_not_hold(overlay: Path) -> None:
    budgets = [item["spec"] for item in build(overlay) if item["kind"] == "PodDisruptionBudget"]
    assert all(budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow" for budget in budgets)
    for name, template in templates(overlay):
        labels = template["metadata"]["labels"]
        assert sum(selects(budget["selector"], labels) for budget in budgets) == 1, name


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    listed = all(
        rule["operator"] == "In" and labels.get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", ())
    )
    return listed and selector.get("matchLabels", {}).items() <= labels.items()
