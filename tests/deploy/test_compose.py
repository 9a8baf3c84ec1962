"""docker-compose.yml: valid, hardened, and true to the files that it mounts."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings

SERVICES = {"lookalike-cpu": ["cpu"], "lookalike-gpu": ["gpu"], "prometheus": ["cpu", "gpu"], "grafana": ["cpu", "gpu"]}


@pytest.fixture(scope="module")
def compose(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((root / "docker-compose.yml").read_text())
    return content


def test_it_is_valid_against_the_schema_of_compose(root: Path, program: Callable[[str], str]) -> None:
    command = [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    check = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout


def test_the_schema_finds_a_mistake(root: Path, tmp_path: Path, program: Callable[[str], str]) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text((root / "docker-compose.yml").read_text().replace("cap_drop", "cap_dropped"))
    command = [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(wrong)]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (check.returncode, "cap_dropped" in check.stdout) == (1, True)


def test_each_profile_has_one_service_and_its_company(compose: dict[str, Any]) -> None:
    assert {name: service["profiles"] for name, service in compose["services"].items()} == SERVICES
    for service in ("lookalike-cpu", "lookalike-gpu"):
        # Prometheus looks for the same name in both.
        assert compose["services"][service]["networks"]["default"]["aliases"] == ["lookalike"]


@pytest.mark.parametrize("name", SERVICES)
def test_containers_are_hardened_and_met_from_this_machine_only(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    # On a machine of 256 cores: two threads each, and those of Python and of the runtime beside them.
    assert service["pids_limit"] > 2 * 256 + 128


@pytest.mark.parametrize(("name", "target"), [("lookalike-cpu", "cpu"), ("lookalike-gpu", "cuda")])
def test_the_service_is_built_and_set_as_it_can_be(
    root: Path, compose: dict[str, Any], name: str, target: str, settings_from: Callable[[dict[str, str]], Settings]
) -> None:
    service = compose["services"][name]
    assert service["build"]["target"] == target
    assert re.search(rf"^FROM \S+ AS {target}$", (root / "Dockerfile").read_text(), re.MULTILINE)
    # What is asked for is not passed over in silence.
    assert {"LOOKALIKE_KEYS", "LOOKALIKE_RATE_LIMIT"} <= set(service["environment"])
    defaults = {key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for key, value in service["environment"].items()}
    settings = settings_from(defaults)
    assert float(service["stop_grace_period"].removesuffix("s")) > settings.drain_seconds + settings.deadline + 5


def test_gpu_is_reserved_for_the_gpu_service_only(compose: dict[str, Any]) -> None:
    reserving = [name for name, service in compose["services"].items() if "deploy" in service]
    assert reserving == ["lookalike-gpu"]
    (device,) = compose["services"]["lookalike-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_what_is_mounted_is_there_and_where_it_is_looked_for(root: Path, compose: dict[str, Any]) -> None:
    mounts: dict[str, Path] = {}
    for service in ("prometheus", "grafana"):
        for volume in compose["services"][service]["volumes"]:
            source, target, *mode = volume.split(":")
            if source.startswith("./"):
                assert mode == ["ro"], volume
                mounts[target] = root / source
            else:
                assert source in compose["volumes"]

    def mounted(path: str) -> Path:
        target = next(target for target in mounts if path.startswith(target))
        return mounts[target] / path.removeprefix(target).lstrip("/")

    (config,) = (word for word in compose["services"]["prometheus"]["command"] if word.startswith("--config.file="))
    assert mounted(config.partition("=")[2]).is_file()
    assert mounted(compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()
    provisioning = mounted("/etc/grafana/provisioning")
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "lookalike.yml").read_text())["providers"]
    assert list(mounted(provider["options"]["path"]).glob("*.json"))
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_prometheus_looks_for_the_services_alias_and_port(root: Path, compose: dict[str, Any]) -> None:
    config = yaml.safe_load((root / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (lookup,) = job["dns_sd_configs"]
    service = compose["services"]["lookalike-cpu"]
    assert lookup["names"] == service["networks"]["default"]["aliases"]
    assert [str(lookup["port"])] == [port.rpartition(":")[2] for port in service["ports"]]
    assert job["job_name"] == "lookalike"  # what the alerts look for
