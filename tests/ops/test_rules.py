import subprocess
from pathlib import Path

import pytest

from tests.ops.support import ROOT, RULE_TESTS, RULES, extract_rules, load_yaml, name_of, needs, rules

pytestmark = needs("yaml")

ALERTS = [rule for path in RULES for rule in rules(path) if "alert" in rule] if RULES else []


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rules")
    extract_rules(folder)
    return folder


@needs("promtool")
@pytest.mark.parametrize("path", RULES, ids=name_of)
def test_rules_are_valid(extracted: Path, path: Path) -> None:
    run = subprocess.run(
        ["promtool", "check", "rules", str(extracted / path.name)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@needs("promtool")
@pytest.mark.parametrize("path", RULE_TESTS, ids=name_of)
def test_rules_behave_on_synthetic_series(extracted: Path, path: Path) -> None:
    run = subprocess.run(
        ["promtool", "test", "rules", f"test-{path.name}"], cwd=extracted, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_is_tested_both_firing_and_not() -> None:
    cases: dict[bool, set[str]] = {True: set(), False: set()}
    for path in RULE_TESTS:
        for test in load_yaml(path)["tests"]:
            for case in test.get("alert_rule_test", ()):
                cases[bool(case["exp_alerts"])].add(case["alertname"])
    names = {rule["alert"] for rule in ALERTS}
    assert names == cases[True] == cases[False]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_has_severity_texts_and_a_runbook_that_exists(rule: dict) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert "$value" in notes["description"] or rule["alert"] == "SluiceAbsent"
    runbook = ROOT / notes["runbook_url"]
    assert runbook.is_file(), f"{notes['runbook_url']} is missing"
    text = runbook.read_text(encoding="utf-8")
    assert text.startswith(f"# {rule['alert']}\n")
    for heading in ("## What it means", "## Look first", "## What to do"):
        assert heading in text, f"{runbook.name} has no {heading!r}"


def test_every_runbook_belongs_to_an_alert() -> None:
    linked = {rule["annotations"]["runbook_url"] for rule in ALERTS}
    present = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert present - {"docs/runbooks/README.md"} == linked
