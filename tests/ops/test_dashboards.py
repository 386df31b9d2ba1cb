import json
import subprocess
from pathlib import Path

import pytest

from tests.ops.support import DASHBOARDS, dashboard, expressions, load_yaml, name_of, needs


@needs("grafana_foundation_sdk")
@pytest.mark.parametrize("path", DASHBOARDS, ids=name_of)
def test_dashboard_fits_grafanas_schema(path: Path) -> None:
    from tests.ops.dashboard_schema import problems

    assert problems(dashboard(path)) == []


@needs("grafana_foundation_sdk")
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda board: board["panels"][0].update(colour="red"), "no such field"),
        (lambda board: board["panels"][0]["options"].update(textMode="loud"), "text_mode"),
        (lambda board: board.update(title=7), "title"),
        (lambda board: board["panels"][0]["gridPos"].update(w="wide"), ".w"),
    ],
)
def test_damaged_dashboard_is_found_out(damage, expected: str) -> None:
    from tests.ops.dashboard_schema import problems

    board = dashboard(DASHBOARDS[0])
    damage(board)
    assert any(expected in problem for problem in problems(board))


@needs("promtool", "yaml")
@pytest.mark.parametrize("path", DASHBOARDS, ids=name_of)
def test_every_expression_of_a_dashboard_parses(path: Path, tmp_path: Path) -> None:
    rules = [{"record": f"check:{index}", "expr": expr} for index, (_, expr) in enumerate(expressions(dashboard(path)))]
    file = tmp_path / "expressions.yaml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    assert load_yaml(file)
    run = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=name_of)
def test_dashboard_is_laid_out_and_templated(path: Path) -> None:
    board = dashboard(path)
    assert board["uid"] == f"sluice-{path.stem}"
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "namespace", "consumer"]
    assert {link["url"] for link in board["links"]} >= {"/d/rayDefaultDashboard", "/d/rayServeDashboard"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["description"], panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        assert place["x"] + place["w"] <= 24
        taken |= cells
