import pytest

from consumers.metrics.names import METRICS
from schemas.meanings import MEANINGS
from schemas.tables import CONTROL, CURATED, LEDGER, RAW, TableSpec
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


@pytest.mark.parametrize("spec", [RAW, CURATED, LEDGER, CONTROL], ids=lambda spec: spec.role)
def test_every_column_has_a_meaning_and_no_other_is_told_of(spec: TableSpec) -> None:
    columns = [name for name, _ in docs._columns(spec.schema)]
    assert sorted(columns) == sorted(MEANINGS[spec.role])
    for name in columns:
        meaning = MEANINGS[spec.role][name]
        assert meaning.text.endswith("."), name
        for ending, unit in (("_s", "seconds"), ("_px", "pixels"), ("_bytes", "bytes"), ("_degrees", "degrees")):
            assert not name.endswith(ending) or meaning.unit == unit, name


def test_tables_reference_names_types_of_lists_and_their_fields() -> None:
    text = docs.tables_reference()
    assert "| `clips` | `ARRAY<ROW>`, null |" in text
    assert "| `clips.scores.value` | `DOUBLE`, null |" in text
    assert "| `clip` | `BLOB`, null |" in text
    assert "| `metadata` | `MAP<STRING, STRING>`, null |" in text
    assert "An append table, partitioned by `ingest_date`." in text
