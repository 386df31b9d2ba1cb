import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from consumers.pool.container import MemoryLimit
from consumers.pool.memory_plan import plan_workers
from service.settings import load_settings
from tests.ops.support import CRDS, K8S, OVERLAYS, build, find, load_yaml, name_of, needs

pytestmark = needs("kubectl", "yaml")

KUBERNETES_VERSION = "1.33"
CUSTOM_GROUPS = ("ray.io", "monitoring.coreos.com", "keda.sh")
PROD = K8S / "overlays" / "prod"

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS, ids=name_of)


def is_custom(resource: dict[str, Any]) -> bool:
    return resource["apiVersion"].split("/")[0] in CUSTOM_GROUPS


@needs("kubernetes_validate")
@each_overlay
def test_core_resources_fit_the_schema_of_kubernetes(overlay: Path) -> None:
    import kubernetes_validate

    core = [resource for resource in build(overlay) if not is_custom(resource)]
    assert core
    for resource in core:
        kubernetes_validate.validate(resource, KUBERNETES_VERSION, strict=True)


@pytest.mark.skipif(not CRDS.is_dir(), reason=f"no custom resource schemas at {CRDS}: custom kinds are not checked")
@needs("jsonschema")
@each_overlay
def test_custom_resources_fit_their_definitions_with_unknown_fields_closed(overlay: Path) -> None:
    import jsonschema

    for resource in filter(is_custom, build(overlay)):
        validator = jsonschema.Draft202012Validator(crd_schema(resource["apiVersion"], resource["kind"]))
        problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(resource)]
        assert problems == [], f"{resource['kind']} {resource['metadata']['name']}"


@pytest.mark.skipif(not CRDS.is_dir(), reason=f"no custom resource schemas at {CRDS}: custom kinds are not checked")
@needs("jsonschema")
def test_unknown_field_of_a_custom_resource_is_found_out() -> None:
    import jsonschema

    cluster = find(build(PROD), "RayCluster", "sluice-ray")
    damaged = {**cluster, "spec": {**cluster["spec"], "gpuGroups": []}}
    with pytest.raises(jsonschema.ValidationError, match="gpuGroups"):
        jsonschema.validate(damaged, crd_schema(cluster["apiVersion"], "RayCluster"))


@cache
def crd_schema(api_version: str, kind: str) -> dict[str, Any]:
    group, version = api_version.split("/")
    for path in CRDS.glob(f"{group}_*.yaml"):
        definition = load_yaml(path)
        if definition["spec"]["names"]["kind"] == kind:
            schemas = {item["name"]: item["schema"]["openAPIV3Schema"] for item in definition["spec"]["versions"]}
            return closed(schemas[version])
    raise AssertionError(f"no definition of {kind} in {CRDS}")


def closed(schema: Any) -> Any:
    """Return the schema with every field that it does not name forbidden, as the API server prunes them."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not is_open:
        result["additionalProperties"] = False
    return result


@each_overlay
def test_settings_of_an_overlay_are_accepted_by_the_service(
    overlay: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("SLUICE_")]:
        monkeypatch.delenv(name)
    resources = build(overlay)
    config = next(
        item
        for item in resources
        if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith("sluice-config")
    )
    file = tmp_path / "sluice.toml"
    file.write_text(config["data"]["sluice.toml"])
    settings = load_settings(file)
    pod = find(resources, "StatefulSet", "sluice")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= settings.consumer.drain_timeout_s + 60
    assert not settings.catalog.options, "keys of the store belong in a Secret"


@each_overlay
def test_the_workers_fit_into_the_pod_beside_the_service(overlay: Path, tmp_path: Path) -> None:
    resources = build(overlay)
    config = next(item for item in resources if item["kind"] == "ConfigMap" and "sluice.toml" in item["data"])
    file = tmp_path / "sluice.toml"
    file.write_text(config["data"]["sluice.toml"])
    pool = load_settings(file).pool
    if pool.address is not None:
        return
    container = find(resources, "StatefulSet", "sluice")["spec"]["template"]["spec"]["containers"][0]
    limit_gib = int(container["resources"]["limits"]["memory"].removesuffix("Gi"))
    planned = plan_workers(
        MemoryLimit(limit_gib << 30, True),
        num_cpus=64,
        num_workers=pool.replicas,
        worker_bytes=pool.worker_memory_bytes,
        object_store_bytes=pool.object_store_bytes,
    )
    assert planned.num_workers == pool.replicas


@each_overlay
def test_every_pod_is_locked_down(overlay: Path) -> None:
    for where, spec in pods(build(overlay)):
        assert spec["securityContext"]["runAsNonRoot"], where
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", where
        for container in spec["containers"] + spec.get("initContainers", []):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"], where
            assert not context["allowPrivilegeEscalation"], where
            assert context["capabilities"]["drop"] == ["ALL"], where
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), where
            assert "memory" in container["resources"]["limits"], where
            assert ":" in container["image"], f"{where}: {container['image']} is not pinned"


def pods(resources: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for item in resources:
        if item["kind"] == "StatefulSet":
            found.append(("service", item["spec"]["template"]["spec"]))
        if item["kind"] == "RayCluster":
            groups = [item["spec"]["headGroupSpec"], *item["spec"]["workerGroupSpecs"]]
            found += [(group.get("groupName", "head"), group["template"]["spec"]) for group in groups]
    return found


@each_overlay
def test_traffic_is_denied_unless_named_and_ray_is_closed(overlay: Path) -> None:
    policies = [item for item in build(overlay) if item["kind"] == "NetworkPolicy"]
    default = next(item for item in policies if item["spec"]["podSelector"] == {} and "egress" not in item["spec"])
    assert set(default["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    for policy in policies:
        for rule in policy["spec"].get("ingress", ()):
            assert rule.get("from"), f"{policy['metadata']['name']} lets anyone in"
            ports = {port["port"] for port in rule.get("ports", ())}
            is_ray_node = rule["from"] == [{"podSelector": {"matchLabels": {"sluice.dev/ray-node": "true"}}}]
            assert is_ray_node or (ports and not ports & {6379, 8265, 10001, 52365}), policy["metadata"]["name"]


def test_ray_requires_the_token_that_the_service_has() -> None:
    resources = build(PROD)
    auth = find(resources, "RayCluster", "sluice-ray")["spec"]["authOptions"]
    assert auth["mode"] == "token"
    pod = find(resources, "StatefulSet", "sluice")["spec"]["template"]["spec"]
    of_ray = [item for item in pod["containers"] + pod["initContainers"] if item["name"] in ("sluice", "ray-node")]
    assert len(of_ray) == 2
    for container in of_ray:
        env = {item["name"]: item for item in container["env"]}
        assert env["RAY_AUTH_MODE"]["value"] == "token"
        assert env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == auth["secretName"]


def test_service_and_ray_run_the_same_version() -> None:
    from importlib.metadata import version

    tags = {
        container["image"].split(":")[1].removesuffix("-cuda")
        for _, spec in pods(build(PROD))
        for container in spec["containers"] + spec.get("initContainers", [])
    }
    assert tags == {version("sluice-video-curation")}
    assert find(build(PROD), "RayCluster", "sluice-ray")["spec"]["rayVersion"] == version("ray")


@each_overlay
def test_no_secret_value_and_no_key_is_in_the_manifests(overlay: Path) -> None:
    resources = build(overlay)
    assert not [item for item in resources if item["kind"] == "Secret"]
    for item in resources:
        if item["kind"] == "ConfigMap":
            assert "accesskey" not in str(item["data"]).lower().replace("-", "").replace("_", "")


def test_monitor_selects_the_port_that_serves_metrics_and_names_the_job_sluice() -> None:
    resources = build(PROD)
    monitor = find(resources, "ServiceMonitor", "sluice")["spec"]
    service = find(resources, "Service", "sluice-pods")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "sluice"


def test_autoscaler_follows_the_unpaused_lag_of_the_service() -> None:
    resources = build(K8S / "overlays" / "prod-autoscaled")
    scaler = find(resources, "ScaledObject", "sluice")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "sluice"}
    assert "sluice:lag_records:unpaused" in scaler["triggers"][0]["metadata"]["query"]


@pytest.mark.parametrize("component", ["oss-secret", "oss-rrsa"])
def test_credentials_of_the_store_come_from_a_secret_or_a_role(component: str, tmp_path: Path) -> None:
    base, part = (os.path.relpath(K8S / folder, tmp_path) for folder in ("base", f"components/{component}"))
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{part}]\n")
    resources = build(tmp_path)
    if component == "oss-rrsa":
        account = find(resources, "ServiceAccount", "sluice")
        assert account["metadata"]["annotations"]["pod-identity.alibabacloud.com/role-name"] == "sluice"
    else:
        env = find(resources, "StatefulSet", "sluice")["spec"]["template"]["spec"]["containers"][0]["env"]
        assert any(
            item["name"] == "SLUICE_CATALOG__OPTIONS" and "secretKeyRef" in item["valueFrom"]
            for item in env
            if "valueFrom" in item
        )
