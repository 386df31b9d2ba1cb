"""A real Prometheus over a real endpoint: scrapes it every second, evaluates the project's rules, answers queries."""

import json
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.ops.support import extract_rules

_START_TIMEOUT_S = 60.0


class Prometheus:
    """Speaks to a running server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        query = urllib.parse.urlencode({"query": expr})
        with urllib.request.urlopen(f"{self._url}/api/v1/query?{query}", timeout=10) as answer:
            return json.load(answer)["data"]["result"]

    def alerts(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {sample["metric"]["alertname"] for sample in self.query('ALERTS{alertstate="firing"}')}


@contextmanager
def prometheus(
    folder: Path,
    metrics_port: int,
    labels: dict[str, str] | None = None,
    adapt_rules: Callable[[str], str] = lambda text: text,
) -> Iterator[Prometheus]:
    """Run Prometheus on loopback, scraping ``127.0.0.1:metrics_port`` as the job sluice.

    Args:
        folder: empty; data, configuration and log go there.
        metrics_port: what it scrapes.
        labels: that the target gets, as a discovery would give it.
        adapt_rules: changes the text of each rule file, to make hours pass in seconds.
    """
    rules = folder / "rules"
    rules.mkdir()
    extract_rules(rules)
    for test in rules.glob("test-*.yaml"):
        test.unlink()
    for file in rules.iterdir():
        file.write_text(adapt_rules(file.read_text(encoding="utf-8")), encoding="utf-8")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules / "*.yaml")],
        "scrape_configs": [
            {
                "job_name": "sluice",
                "static_configs": [{"targets": [f"127.0.0.1:{metrics_port}"], "labels": labels or {}}],
            }
        ],
    }
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    log = (folder / "prometheus.log").open("w")
    server = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_until_ready(f"http://{address}", server, folder / "prometheus.log")
        yield Prometheus(f"http://{address}")
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def _wait_until_ready(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    end_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < end_s:
        assert server.poll() is None, f"Prometheus ended: {log.read_text()[-2000:]}"
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=5):
                return
        except OSError:
            threading.Event().wait(0.1)
    raise AssertionError(f"Prometheus was not ready: {log.read_text()[-2000:]}")
