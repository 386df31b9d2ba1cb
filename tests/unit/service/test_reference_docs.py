import pytest

from consumers.metrics.names import METRICS
from service import docs


@pytest.mark.parametrize("name", list(docs.REFERENCES))
def test_committed_reference_is_what_the_code_generates(name: str) -> None:
    committed = (docs.FOLDER / name).read_text(encoding="utf-8")
    assert committed == docs.REFERENCES[name](), f"docs/{name} is stale: run `python -m service.docs`"


def test_metric_names_keep_the_conventions() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    for metric in METRICS:
        assert metric.name.startswith("sluice_")
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert (metric.kind == "histogram") == bool(metric.buckets), metric.name
        assert metric.labels[0] == "consumer"
        assert not {"video_id", "row_id", "clip_id", "uri"} & set(metric.labels)
        assert metric.help.endswith("."), metric.name
        assert all(len(values) == len(metric.labels) - 1 for values in metric.values) or not metric.starts_at_zero


def test_configuration_reference_names_range_default_and_variable_of_a_setting() -> None:
    text = docs.configuration_reference()
    row = next(line for line in text.splitlines() if "`SLUICE_PROFILE__SCENE__THRESHOLD`" in line)
    assert "| number | `27.0` | above 0, at most 255 |" in row
    assert "| `warehouse`<br>`SLUICE_CATALOG__WAREHOUSE` | text | required |" in text
    assert "## `[profile.models.nsfw]`" in text
