"""Prometheus and Grafana: a real Prometheus scrapes a running service, and answers every panel and every alert."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.keys import make_key
from app.main import create_app
from app.runtime.manifest import parse_manifest
from app.settings import Settings
from app.telemetry.metrics import Metrics
from tests.patience import PATIENCE, until
from tests.ports import Port

Series = list[tuple[dict[str, str], float]]


def dashboard(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "deploy/grafana/dashboards/lookalike.json").read_text())
    return content


def panels(root: Path) -> list[dict[str, Any]]:
    return [panel for panel in dashboard(root)["panels"] if panel["type"] != "row"]


def alerts(root: Path) -> dict[str, str]:
    """The expressions of the alerts."""
    (group,) = yaml.safe_load((root / "deploy/prometheus/alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


class Prometheus:
    """A Prometheus that scrapes one service twice a second."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asking = httpx.Client(base_url=address, timeout=PATIENCE, verify=False)  # certificates take long to read

    def query(self, expression: str) -> Series:
        """The series of an expression, without those that are not numbers."""
        answer = self.asking.post("/api/v1/query", data={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        assert answer["data"]["resultType"] == "vector", expression
        series = [(item["metric"], float(item["value"][1])) for item in answer["data"]["result"]]
        return [(labels, value) for labels, value in series if math.isfinite(value)]

    def panel(self, expression: str) -> Series:
        """The same for an expression of the dashboard, as Grafana sends it.

        Rates are taken over longer than the tests last, else what was counted could have left the window again.
        """
        return self.query(expression.replace("$__rate_interval", "1h").replace("$instance", ".+"))


@pytest.fixture(scope="module")
def prometheus(
    root: Path,
    program: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
    running: Callable[[FastAPI], AbstractContextManager[str]],
    photo: bytes,
    landscape: bytes,
) -> Iterator[Prometheus]:
    """Prometheus on the shipped files, a service that it scrapes, and two rounds of requests behind them."""
    executable = program("prometheus")
    app = create_app(Settings(device="cpu", batch_sizes=(1, 4), queue_images=64, deadline=PATIENCE))
    folder = tmp_path_factory.mktemp("prometheus")
    with running(app) as service:
        config = yaml.safe_load((root / "deploy/prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        config["rule_files"] = [str(root / "deploy/prometheus" / name) for name in config["rule_files"]]
        (job,) = config["scrape_configs"]
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [service], "labels": {"namespace": "faces", "pod": "lookalike-1"}}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = Port()
        process = subprocess.Popen(
            [
                executable,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port.number}",
                "--log.level=error",
            ]
        )
        try:
            prometheus = Prometheus(f"http://127.0.0.1:{port.number}")

            def answers() -> bool:
                assert process.poll() is None
                try:
                    return prometheus.asking.get("/-/ready").status_code == 200
                except httpx.TransportError:
                    return False

            until(answers, "Prometheus was ready")
            for rounds in (1, 2):  # a rate needs a counter before and after
                requests(f"http://{service}", app, photo, landscape)
                until(
                    lambda rounds=rounds: any(
                        value >= rounds
                        for _, value in prometheus.query('lookalike_rejected_total{reason="overloaded"}')
                    ),
                    "the requests were counted",
                )
            yield prometheus
        finally:
            process.terminate()
            process.wait(PATIENCE)
            port.release()


def requests(service: str, app: FastAPI, photo: bytes, landscape: bytes) -> None:
    """What clients do: variants, a comparison, a photograph without a face, and one too many."""
    headers = {"Content-Type": "image/jpeg"}
    with httpx.Client(base_url=service, timeout=PATIENCE) as client:
        made = client.post("/v1/variants?count=4&seed=1", content=photo, headers=headers)
        assert made.status_code == 200
        files = {"reference": photo, "probe": photo}
        assert client.post("/v1/compare", files=files).status_code == 200
        assert client.post("/v1/variants", content=landscape, headers=headers).status_code == 422
        with app.state.service.gate.hold(64):
            assert client.post("/v1/variants", content=photo, headers=headers).status_code == 503


def test_the_files_are_valid(root: Path, program: Callable[[str], str]) -> None:
    promtool = program("promtool")
    for check in (["config", "deploy/prometheus/prometheus.yml"], ["rules", "deploy/prometheus/alerts.yml"]):
        done = subprocess.run([promtool, "check", *check], cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should_and_only_then(root: Path, program: Callable[[str], str]) -> None:
    command = [program("promtool"), "test", "rules", "tests/deploy/alerts.yml"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = (root / "tests/deploy/alerts.yml").read_text()
    for name in alerts(root):
        assert tested.count(f"alertname: {name}") >= 2, f"{name} is not shown both to fire and to be silent"


def test_what_is_refused_before_its_address_is_looked_at_is_counted_as_the_alerts_know(
    root: Path, new_client: Callable[..., TestClient], photo: bytes
) -> None:
    client = new_client(keys=(make_key("somebody")[1],), max_requests=1)
    with client.app.state.readiness.request():
        assert client.post("/v1/variants", content=photo).status_code == 503
    assert client.post("/v1/variants", content=photo).status_code == 401
    shown = client.get("/metrics").text
    for status in (401, 503):
        assert f'lookalike_http_requests_total{{method="POST",route="none",status="{status}"}} 1.0' in shown
    watching = [name for name, expression in alerts(root).items() if 'route="none", method="POST"' in expression]
    assert watching == ["LookalikeFailing", "LookalikeRefusing"]
    refused = next(panel for panel in panels(root) if panel["title"] == "Refused")["targets"][0]["expr"]
    assert refused.count('route="none", method="POST"') == 2


def test_every_panel_has_data(root: Path, prometheus: Prometheus) -> None:
    for panel in panels(root):
        for target in panel["targets"]:
            until(lambda: prometheus.panel(target["expr"]), f"{panel['title']} had data: {target['expr']}")  # noqa: B023


def test_every_alert_looks_at_data(root: Path, prometheus: Prometheus) -> None:
    """Silence must be because all is well, not because there is no such series."""
    for name, expression in alerts(root).items():
        value, compared, _ = re.split(r"\s([<>])\s+[\d.]+\s*$", expression)
        assert compared
        until(lambda: prometheus.query(value), f"{name} had data: {value}")  # noqa: B023

    def health() -> dict[str, str]:
        rules = prometheus.asking.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
        return {rule["name"]: rule["health"] for rule in rules}

    until(lambda: health() == dict.fromkeys(alerts(root), "ok"), "all were evaluated")


def test_what_is_shown_is_what_happened(root: Path, prometheus: Prometheus) -> None:
    expressions = {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels(root)}

    def shown(title: str, label: str) -> set[str]:
        return {labels[label] for expr in expressions[title] for labels, value in prometheus.panel(expr) if value > 0}

    def until_shown(title: str, label: str, wanted: set[str]) -> None:
        until(lambda: shown(title, label) >= wanted, f"{title} showed {wanted}")

    until_shown("Refusals per second", "reason", {"no-face", "overloaded"})
    until_shown("Requests per second", "route", {"/v1/variants", "/v1/compare"})
    until_shown("Where the time goes", "stage", {"read", "detect", "align", "encode", "decode", "write"})
    until_shown("Images in a batch, mean", "model", {"encoder", "decoder"})

    def panel(title: str) -> Series:
        """Its series; after a scrape that took too long there are none for a while, so they are waited for."""
        wanted = expressions[title]
        return until(
            lambda: len(found := [one for expr in wanted for one in prometheus.panel(expr)]) == len(wanted) and found,
            f"{title} had data",
        )

    until(lambda: panel("Ready replicas")[0][1] == 1, "one replica was ready")
    quantiles = [value for _, value in panel("Similarity of variants to their source")]
    assert 1 > quantiles[0] >= quantiles[1] >= quantiles[2] > 0
    ((model, _),) = panel("Model")
    version = parse_manifest(Settings().models).version
    assert model == {"name": "lookalike", "version": version, "device": "cpu"}


def test_the_autoscaler_gets_one_number_a_pod(root: Path, prometheus: Prometheus) -> None:
    (rule,) = yaml.safe_load((root / "deploy/kubernetes/prometheus-adapter.yaml").read_text())["rules"]["custom"]
    query = rule["metricsQuery"]
    for placeholder, text in {
        "<<.Series>>": rule["name"]["matches"],
        "<<.LabelMatchers>>": 'namespace="faces",pod=~"lookalike-1"',
        "<<.GroupBy>>": "pod",
    }.items():
        query = query.replace(placeholder, text)
    until(lambda: prometheus.query(query) == [({"pod": "lookalike-1"}, 0.0)], "there was one number")
    until(lambda: prometheus.query(rule["seriesQuery"]), "there was the series")


def test_every_metric_is_shown_or_watched(root: Path) -> None:
    used = " ".join(
        [target["expr"] for panel in panels(root) for target in panel["targets"]] + list(alerts(root).values())
    )
    exposed = re.findall(r"^# TYPE (lookalike_\w+)", Metrics().text().decode(), re.MULTILINE)
    assert exposed
    unused = [name for name in exposed if name not in used and not name.endswith("_created")]
    assert unused == []


def test_panels_tile_the_dashboard(root: Path) -> None:
    """Unique numbers, a title and a word of explanation each, nothing on top of something else."""
    board = dashboard(root)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or (panel["title"] and panel["description"])
    assert len(taken) == 24 * (max(y for _, y in taken) + 1)


def test_panels_use_the_variables(root: Path) -> None:
    assert {variable["name"] for variable in dashboard(root)["templating"]["list"]} == {"datasource", "instance"}
    expressions = [target["expr"] for panel in panels(root) for target in panel["targets"]]
    asked = [expression for expression in expressions if "/v[12]/" in expression]
    assert asked
    for expression in asked:  # a probe every other second would make any latency a short one
        assert expression.count('route!~"/v2/health/.+"') == expression.count('route=~"/v[12]/.+"')
    for panel in panels(root):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            assert 'instance=~"$instance"' in target["expr"]
