"""deploy/kubernetes: rendered as a cluster gets it, valid, hardened, and true to the service."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.http.middleware import PROBES
from app.main import create_app
from app.settings import Settings
from app.telemetry.metrics import Metrics

VERSIONS = ("1.33", kubernetes_validate.latest_version())
"""Releases of Kubernetes that the manifests are for: the oldest, and the newest that is known."""

Resource = dict[str, Any]


@pytest.fixture(scope="module")
def render(root: Path, program: Callable[[str], str]) -> Callable[[str], list[Resource]]:
    """What `kubectl kustomize` makes of a folder of deploy/kubernetes."""
    rendered: dict[str, list[Resource]] = {}

    def make(folder: str) -> list[Resource]:
        if folder not in rendered:
            command = [program("kubectl"), "kustomize", f"deploy/kubernetes/{folder}"]
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
            rendered[folder] = list(yaml.safe_load_all(done.stdout))
        return copy.deepcopy(rendered[folder])

    return make


def of_kind(resources: list[Resource], kind: str) -> Resource:
    (found,) = (resource for resource in resources if resource["kind"] == kind)
    return found


def pod_spec(resources: list[Resource]) -> Resource:
    """The pods of the Deployment, or of KServe's predictor less what only KServe knows."""
    try:
        spec: Resource = of_kind(resources, "Deployment")["spec"]["template"]["spec"]
    except ValueError:
        predictor = of_kind(resources, "InferenceService")["spec"]["predictor"]
        own = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "timeout", "annotations"}
        spec = {key: value for key, value in predictor.items() if key not in own}
    return spec


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", ["base", "gpu"])
def test_every_resource_is_valid(render: Callable[[str], list[Resource]], folder: str, version: str) -> None:
    resources = render(folder)
    assert {resource["kind"] for resource in resources} == {
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }
    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)


def test_the_predictor_of_kserve_is_a_valid_pod(render: Callable[[str], list[Resource]]) -> None:
    resources = render("kserve")
    assert of_kind(resources, "InferenceService")["apiVersion"] == "serving.kserve.io/v1beta1"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lookalike"}, "spec": pod_spec(resources)}
    kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)


def test_validation_finds_a_mistake(render: Callable[[str], list[Resource]]) -> None:
    deployment = of_kind(render("base"), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbes"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("folder", ["base", "gpu"])
def test_selectors_find_these_pods_and_no_others(render: Callable[[str], list[Resource]], folder: str) -> None:
    resources = render(folder)
    template = of_kind(resources, "Deployment")["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    selectors = [
        of_kind(resources, "Deployment")["spec"]["selector"]["matchLabels"],
        of_kind(resources, "Service")["spec"]["selector"],
        of_kind(resources, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        template["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert {"app.kubernetes.io/name", "app.kubernetes.io/component"} == set(selector)
        assert selector.items() <= labels
    target = of_kind(resources, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    deployment = of_kind(resources, "Deployment")
    assert target == {key: deployment[key] for key in ("apiVersion", "kind")} | {"name": deployment["metadata"]["name"]}


@pytest.mark.parametrize("folder", ["base", "gpu", "kserve", "monitored"])
def test_pods_meet_the_restricted_standard(render: Callable[[str], list[Resource]], folder: str) -> None:
    """Kubernetes' Pod Security Standard `restricted`, and more: no token, nothing to write to but memory."""
    spec = pod_spec(render(folder))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for volume in spec["volumes"]:
        assert volume.get("emptyDir", {"medium": "Memory"})["medium"] == "Memory"
        assert {"emptyDir", "secret"} & set(volume)
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("folder", ["base", "gpu", "kserve", "monitored"])
def test_the_environment_makes_settings(
    render: Callable[[str], list[Resource]],
    folder: str,
    tmp_path: Path,
    settings_from: Callable[[dict[str, str]], Settings],
) -> None:
    spec = pod_spec(render(folder))
    (container,) = spec["containers"]
    environment = {}
    for variable in container["env"]:
        if "valueFrom" in variable:
            reference = variable["valueFrom"]["resourceFieldRef"]
            assert reference == {"containerName": container["name"], "resource": "limits.cpu"}
            environment[variable["name"]] = container["resources"]["limits"]["cpu"]
        else:
            environment[variable["name"]] = variable["value"]
    # A Service called lookalike would add LOOKALIKE_PORT=tcp://..., which is not a port.
    assert spec["enableServiceLinks"] is False
    mounted = container["volumeMounts"][-1]["mountPath"]
    assert environment["LOOKALIKE_KEYS_FILE"] == f"{mounted}/keys"
    (tmp_path / "keys").write_text(f"somebody:{'0' * 64}\n")
    environment["LOOKALIKE_KEYS_FILE"] = str(tmp_path / "keys")
    settings = settings_from(environment)
    assert settings.threads == settings.image_threads == int(container["resources"]["limits"]["cpu"])
    # SIGTERM: readiness turns false, proxies notice, what is in flight gets its deadline.
    probe = container["readinessProbe"]
    assert settings.drain_seconds > probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert spec["terminationGracePeriodSeconds"] > settings.drain_seconds + settings.deadline + 5
    assert settings.needs_key


@pytest.mark.parametrize("folder", ["base", "gpu", "kserve"])
def test_probes_ask_for_what_there_is(render: Callable[[str], list[Resource]], folder: str) -> None:
    paths = create_app(Settings()).openapi()["paths"]
    (container,) = pod_spec(render(folder))["containers"]
    ports = {port["containerPort"] for port in container["ports"]} | {port["name"] for port in container["ports"]}
    for name, ending in (("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")):
        request = container[name]["httpGet"]
        assert request["path"] in paths
        assert request["path"].endswith(ending)
        assert request["path"] in PROBES, "it would be logged every other second"
        assert request["port"] in ports
    assert 8000 in ports


def test_images_are_those_of_compose(root: Path, render: Callable[[str], list[Resource]]) -> None:
    compose = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    for folder, service in (("base", "lookalike-cpu"), ("gpu", "lookalike-gpu"), ("kserve", "lookalike-cpu")):
        (container,) = pod_spec(render(folder))["containers"]
        assert container["image"] == compose[service]["image"]


def test_gpu_overlay_asks_for_a_gpu_and_nothing_less(render: Callable[[str], list[Resource]]) -> None:
    (container,) = pod_spec(render("gpu"))["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"name": "LOOKALIKE_DEVICE", "value": "cuda"} in container["env"]
    (plain,) = pod_spec(render("base"))["containers"]
    assert "nvidia" not in json.dumps(plain)


def test_the_queue_is_what_replicas_are_scaled_on(root: Path, render: Callable[[str], list[Resource]]) -> None:
    (rule,) = yaml.safe_load((root / "deploy/kubernetes/prometheus-adapter.yaml").read_text())["rules"]["custom"]
    for folder in ("base", "gpu"):
        autoscaler = of_kind(render(folder), "HorizontalPodAutoscaler")["spec"]
        (metric,) = autoscaler["metrics"]
        name = metric["pods"]["metric"]["name"]
        assert rule["name"]["as"] == name
        assert f"# TYPE {name} gauge".encode() in Metrics().text()
        assert autoscaler["minReplicas"] >= 2  # one may go while a node is drained


@pytest.mark.parametrize("folder", ["base", "gpu", "kserve"])
def test_network_policy_lets_requests_in_and_nothing_out(render: Callable[[str], list[Resource]], folder: str) -> None:
    resources = render(folder)
    policy = of_kind(resources, "NetworkPolicy")["spec"]
    kubernetes_validate.validate(of_kind(resources, "NetworkPolicy"), VERSIONS[-1], strict=True)
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    (ingress,) = policy["ingress"]
    (container,) = pod_spec(resources)["containers"]
    port = container["ports"][0]
    assert ingress["ports"] == [{"protocol": "TCP", "port": port["containerPort" if folder == "kserve" else "name"]}]
    assert {"podSelector": {}} in ingress["from"]
    if folder == "kserve":
        name = of_kind(resources, "InferenceService")["metadata"]["name"]
        assert policy["podSelector"]["matchLabels"] == {"serving.kserve.io/inferenceservice": name}


def test_what_is_watched_is_found_and_one_limit_is_shared(root: Path, render: Callable[[str], list[Resource]]) -> None:
    resources = render("monitored")
    monitor, service = of_kind(resources, "ServiceMonitor"), of_kind(resources, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] in create_app(Settings()).openapi()["paths"]
    # The operator names the job after the Service, unless told otherwise.
    alerts = yaml.safe_load((root / "deploy/prometheus/alerts.yml").read_text())
    (job,) = {found for rule in alerts["groups"][0]["rules"] for found in re.findall(r'job=~"(.+?)"', rule["expr"])}
    for name in (service["metadata"]["name"], "lookalike-predictor", "faces/lookalike"):
        assert re.fullmatch(job, name)
    assert of_kind(resources, "PrometheusRule")["spec"] == alerts, "deploy/prometheus/alerts.yml has changed"
    redis, dns = of_kind(resources, "NetworkPolicy")["spec"]["egress"]
    assert redis["ports"] == [{"protocol": "TCP", "port": 6379}]
    assert {port["port"] for port in dns["ports"]} == {53}
    for resource in resources:
        if not resource["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(resource, VERSIONS[-1], strict=True)


def test_files_with_keys_stay_out_of_the_repository(root: Path) -> None:
    documents = " ".join((root / "docs" / name).read_text() for name in ("deploy.md", "operate.md"))
    files = set(re.findall(r"> ([\w-]+\.key|keys\.txt|lookalike-keys\.yaml)", documents))
    assert len(files) >= 5
    done = subprocess.run(["git", "check-ignore", *files], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 128:
        pytest.skip("this is no git repository")
    assert set(done.stdout.split()) == files
