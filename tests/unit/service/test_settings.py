from pathlib import Path

import pytest

from consumers.errors import ConfigurationError
from service.settings import load_settings

MINIMAL = '[catalog]\nwarehouse = "/data/warehouse"\n'


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def _write(text: str) -> Path:
        path = tmp_path / "sluice.toml"
        path.write_text(text)
        return path

    return _write


def test_minimal_file_gives_the_documented_defaults(write) -> None:
    settings = load_settings(write(MINIMAL))
    assert settings.pool.kind == "ray"
    assert settings.profile.scene.threshold == 27.0
    assert settings.profile.nsfw.unscored == "hold"
    assert settings.consumer.id == "default"


def test_environment_wins_over_the_file(write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(MINIMAL + '[pool]\nkind = "ray"\nreplicas = 1\n')
    monkeypatch.setenv("SLUICE_POOL__REPLICAS", "7")
    monkeypatch.setenv("SLUICE_PROFILE__DURATION__MIN_S", "2.5")
    settings = load_settings(path)
    assert settings.pool.replicas == 7
    assert settings.pool.kind == "ray"
    assert settings.profile.duration.min_s == 2.5


def test_command_line_wins_over_everything_and_is_validated(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_POOL__KIND", "ray")
    path = write(MINIMAL)
    assert load_settings(path, {"pool": {"kind": "inline"}}).pool.kind == "inline"
    with pytest.raises(ConfigurationError, match=r"setting pool\.kind"):
        load_settings(path, {"pool": {"kind": "cloud"}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[consumer]\nidd = 'x'\n", "setting consumer.idd: there is no such setting"),
        ("[pool]\nreplicas = 0\n", "setting pool.replicas: input should be greater than or equal to 1"),
        ("[pool]\nreplicas = 'many'\n", "setting pool.replicas: input should be a valid integer"),
        ("[profile.scene]\nthreshold = 300\n", "setting profile.scene.threshold: input should be less than or equal"),
        ("[profile.duration]\nmin_s = 9\nmax_s = 3\n", "profile.duration: max_s (3.0) is below min_s (9.0) (from "),
        ("[profile.models.nsfw]\n", "models.nsfw: Falconsai/nsfw_image_detection has no revision: pin it"),
        (
            "[profile.models.captioner]\nkind = 'blip2'\nsource = './b'\nmax_frames = 0\n",
            "setting profile.models.captioner.max_frames: input should be greater than or equal to 1 (from ",
        ),
        (
            "[profile.models]\nnsfw = 'Falconsai/nsfw_image_detection'\n",
            "profile.models.nsfw: is a section with keys of its own, [profile.models.nsfw], not one value (from ",
        ),
        ("[gpu]\n", "setting gpu: there is no such setting"),
        (
            "[maintenance]\npurge_within_s = 86400\n",
            "purge_within_s is 86400, but snapshots that hold the bytes stay for keep_snapshots_s, 259200: give at "
            "least 266400 (two rounds more)",
        ),
    ],
)
def test_setting_that_does_not_fit_is_named_with_what_to_do(write, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(write(MINIMAL + text))
    assert expected in str(caught.value)


def test_missing_warehouse_names_the_setting_and_its_variable(write) -> None:
    with pytest.raises(ConfigurationError, match=r"setting catalog: is missing; set it in .*sluice\.toml"):
        load_settings(write(""))


def test_named_file_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such settings file"):
        load_settings(tmp_path / "other.toml")


def test_file_that_is_no_toml_is_named_with_the_line(write) -> None:
    with pytest.raises(ConfigurationError, match=r"sluice\.toml: cannot be read as TOML: .*line 1"):
        load_settings(write("[catalog\n"))


def test_secret_never_shows_in_settings_or_errors(write) -> None:
    path = write(MINIMAL + '[catalog.options]\n"s3.secret-key" = "hush-hush"\n')
    settings = load_settings(path)
    assert settings.catalog.options["s3.secret-key"] == "hush-hush"
    assert "hush-hush" not in repr(settings)
    path = write(MINIMAL + '[catalog.options]\n"s3.secret-key" = ["hush-hush"]\n')
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize("value", ["{bad", '{"s3.secret-key": hunter2}', "[1,"])
def test_variable_that_is_no_json_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SLUICE_CATALOG__WAREHOUSE", "/warehouse")
    monkeypatch.setenv("SLUICE_CATALOG__OPTIONS", value)
    with pytest.raises(ConfigurationError, match=r"^variable SLUICE_CATALOG__OPTIONS: is no JSON: ") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "is_warned"),
    [
        ('options = { "s3.secret-key" = "hunter2" }', True),
        ('options = { "fs.oss.accessKeySecret" = "hunter2" }', True),
        ('options = { "s3.endpoint" = "http://store" }', False),
    ],
)
def test_settings_with_secrets_that_others_can_read_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str, is_warned: bool
) -> None:
    file = tmp_path / "sluice.toml"
    file.write_text(f'[catalog]\nwarehouse = "/warehouse"\n{line}\n')
    file.chmod(0o644)
    load_settings(file)
    assert ("chmod 600" in caplog.text) == is_warned
    assert "hunter2" not in caplog.text
    caplog.clear()
    file.chmod(0o600)
    load_settings(file)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("SLUICE_POOL_REPLICAS", "did you mean SLUICE_POOL__REPLICAS?"),
        ("SLUICE_POLO__REPLICAS", "did you mean SLUICE_POOL__REPLICAS?"),
        ("SLUICE_API_PORT", "did you mean SLUICE_API__PORT?"),
        ("SLUICE_TOKENS", "did you mean SLUICE_TOKEN?"),
        ("SLUICE_XYZZY", "unset it, or correct its name"),
    ],
)
def test_variable_that_is_no_setting_is_refused_and_its_value_not_told(
    write, monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    monkeypatch.setenv(name, "hush")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(write(MINIMAL))
    assert str(caught.value).startswith(f"variable {name}: there is no such setting; {advice}")
    assert "hush" not in str(caught.value)


def test_unknown_key_of_a_known_section_is_refused_in_the_environment_too(
    write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_POOL__REPLICA", "3")
    with pytest.raises(ConfigurationError, match=r"setting pool\.replica: there is no such setting"):
        load_settings(write(MINIMAL))


def test_places_that_kubernetes_tells_of_services_called_sluice_are_no_settings(
    write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLUICE", "SLUICE_RAY_HEAD_SVC", "SLUICE_API"):
        monkeypatch.setenv(f"{name}_SERVICE_HOST", "10.0.0.7")
        monkeypatch.setenv(f"{name}_SERVICE_PORT", "80")
        monkeypatch.setenv(f"{name}_SERVICE_PORT_HTTP", "80")
        monkeypatch.setenv(f"{name}_PORT", "tcp://10.0.0.7:80")
        monkeypatch.setenv(f"{name}_PORT_80_TCP", "tcp://10.0.0.7:80")
        monkeypatch.setenv(f"{name}_PORT_80_TCP_ADDR", "10.0.0.7")
    assert load_settings(write(MINIMAL)).pool.kind == "ray"


def test_settings_file_that_is_nowhere_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path / 'sluice.toml'}: there is no such settings file")
    assert second.startswith("setting catalog: is missing")
