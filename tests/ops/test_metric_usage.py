import pytest

from consumers.metrics.names import FOREIGN, METRICS
from tests.ops.support import DASHBOARDS, K8S, RULES, dashboard, expressions, needs, rules, series_in

pytestmark = needs("yaml")


@pytest.fixture(scope="module")
def used() -> dict[str, set[str]]:
    """Series by where they are used."""
    places = {f"{path.stem} rules": [rule["expr"] for rule in rules(path)] for path in RULES}
    for path in DASHBOARDS:
        places[f"{path.stem} dashboard"] = [expr for _, expr in expressions(dashboard(path))]
    places["autoscaler"] = [
        line.split("query:", 1)[1]
        for line in (K8S / "components" / "keda" / "scaled-object.yaml").read_text().splitlines()
        if "query:" in line
    ]
    return {place: set().union(*map(series_in, exprs)) for place, exprs in places.items()}


def test_every_series_in_a_rule_or_panel_exists(used: dict[str, set[str]]) -> None:
    recorded = {rule["record"] for path in RULES for rule in rules(path) if "record" in rule}
    known = {metric.name for metric in METRICS} | set(FOREIGN) | recorded
    assert {place: names - known for place, names in used.items() if names - known} == {}


def test_every_listed_metric_is_used_or_marked_for_exploration(used: dict[str, set[str]]) -> None:
    everywhere = set().union(*used.values())
    unused = {metric.name for metric in METRICS if metric.name not in everywhere}
    marked = {metric.name for metric in METRICS if metric.exploration_only}
    assert unused == marked


def test_every_recorded_series_is_used(used: dict[str, set[str]]) -> None:
    recorded = {rule["record"] for path in RULES for rule in rules(path) if "record" in rule}
    assert recorded <= set().union(*used.values())
