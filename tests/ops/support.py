"""Tools that the checks of manifests, rules and dashboards share.

What is missing skips a test, and fails it under ``make ops-check`` (TEST_SLUICE_OPS_REQUIRED=1); only the custom
resource schemas, which are not part of this repository, may always be absent.
"""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
MONITORING = K8S / "monitoring"
RULES = sorted((MONITORING / "rules").glob("*.yaml"))
RULE_TESTS = sorted((MONITORING / "rule-tests").glob("*.yaml"))
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
OVERLAYS = sorted(path.parent for path in (K8S / "overlays").glob("*/kustomization.yaml"))
CRDS = ROOT.parent / "shared" / "crds"

_SERIES = re.compile(r"\b(sluice:[a-z0-9_:]+|(?:sluice|process)_[a-z0-9_]+|up|ALERTS)\b")
_SUFFIXES = ("_bucket", "_sum", "_count")


def needs(*tools: str) -> pytest.MarkDecorator:
    """Skip without these commands or Python packages; under ``make ops-check`` let the test fail instead."""
    missing = [tool for tool in tools if shutil.which(tool) is None and find_spec(tool) is None]
    return pytest.mark.skipif(
        bool(missing) and not os.environ.get("TEST_SLUICE_OPS_REQUIRED"),
        reason=f"{', '.join(missing)}: not installed (.ci/setup-ops and pip install -e '.[ops]' install them)",
    )


def name_of(path: Path) -> str:
    return path.stem if path.suffix else path.name


def load_yaml(path: Path) -> Any:
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8"))


@cache
def build(folder: Path) -> list[dict[str, Any]]:
    """Return the resources that an overlay builds to."""
    import yaml

    run = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"kubectl kustomize {folder}: {run.stderr}"
    return [document for document in yaml.safe_load_all(run.stdout) if document]


def find(resources: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(item for item in resources if (item["kind"], item["metadata"]["name"]) == (kind, name))


def rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in load_yaml(path)["spec"]["groups"] for rule in group["rules"]]


def extract_rules(folder: Path) -> None:
    """Write the rule groups of every PrometheusRule as promtool wants them, and the unit tests beside them."""
    import yaml

    for path in RULES:
        (folder / path.name).write_text(yaml.safe_dump(load_yaml(path)["spec"]), encoding="utf-8")
    for path in RULE_TESTS:
        shutil.copy(path, folder / f"test-{path.name}")


def dashboard(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def expressions(board: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (where, PromQL) of every panel target and annotation, with Grafana's variables filled in."""
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", ())] + [
        (annotation["name"], annotation["expr"]) for annotation in board["annotations"]["list"]
    ]
    return [(where, _filled(expr)) for where, expr in found]


def _filled(expr: str) -> str:
    for variable, value in {
        "$__rate_interval": "5m",
        "$__range": "1h",
        "$namespace": ".*",
        "$consumer": ".*",
    }.items():
        expr = expr.replace(variable, value)
    return expr


def series_in(expr: str) -> set[str]:
    """Return the series that an expression names, histograms by their base name."""
    names = set()
    for name in _SERIES.findall(re.sub(r'"[^"]*"', '""', expr)):
        suffix = next((item for item in _SUFFIXES if name.endswith(item)), "")
        names.add(name.removesuffix(suffix) if suffix and not name.startswith("process_") else name)
    return names


def eventually(look: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    """Ask until the answer is yes: Prometheus tells nobody when it has scraped."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if look():
            return True
        threading.Event().wait(0.5)
    return False
