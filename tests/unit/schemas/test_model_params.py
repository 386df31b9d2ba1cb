import pytest
from pydantic import ValidationError

from schemas.models import (
    AestheticModelParams,
    CaptionerParams,
    ModelsParams,
    NsfwModelParams,
    OpenAIChatParams,
)
from schemas.profile import Profile

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HASH = "ab" * 32


def test_hub_model_without_revision_is_refused_and_told_where_revisions_are() -> None:
    with pytest.raises(ValidationError, match=r"git ls-remote https://huggingface\.co/Falconsai/nsfw_image"):
        NsfwModelParams()


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:7], COMMIT.upper()])
def test_hub_model_with_a_movable_revision_is_refused(revision: str) -> None:
    with pytest.raises(ValidationError, match="40 hexadecimal digits"):
        AestheticModelParams(revision=revision)


def test_known_default_captioner_is_pinned_by_itself() -> None:
    assert CaptionerParams().revision == "1967888d11f09526c8f809fc50fab3931f565be3"


def test_other_captioner_does_not_inherit_the_default_revision() -> None:
    with pytest.raises(ValidationError, match="has no revision"):
        CaptionerParams(source="Salesforce/blip2-opt-2.7b", kind="blip2")


@pytest.mark.parametrize("source", ["model", "a/b/c", "owner/..", "https://example.org/x"])
def test_source_that_is_neither_hub_id_nor_directory_is_refused(source: str) -> None:
    with pytest.raises(ValidationError, match="neither a hub id"):
        NsfwModelParams(source=source, revision=COMMIT)


@pytest.mark.parametrize("source", ["/models/nsfw", "./nsfw", "../nsfw", "~/nsfw"])
def test_directory_needs_no_revision(source: str) -> None:
    assert NsfwModelParams(source=source).is_local


def test_directory_with_a_commit_as_revision_is_refused() -> None:
    with pytest.raises(ValidationError, match="64 hexadecimal digits"):
        NsfwModelParams(source="/models/nsfw", revision=COMMIT)


def test_no_models_by_name_equals_no_models_and_keeps_the_fingerprint() -> None:
    plain = Profile()
    assert Profile.model_validate({"models": "none"}) == plain
    assert Profile(models=ModelsParams()).fingerprint == plain.fingerprint


def test_model_and_revision_change_the_fingerprint() -> None:
    prints = {
        Profile().fingerprint,
        Profile(models=ModelsParams(nsfw=NsfwModelParams(revision=COMMIT))).fingerprint,
        Profile(models=ModelsParams(nsfw=NsfwModelParams(revision=COMMIT[::-1]))).fingerprint,
        Profile(models=ModelsParams(nsfw=NsfwModelParams(source="a/b", revision=COMMIT))).fingerprint,
        Profile(models=ModelsParams(captioner=CaptionerParams())).fingerprint,
        Profile(models=ModelsParams(captioner=CaptionerParams(prompt="a video of"))).fingerprint,
    }
    assert len(prints) == 6


def test_where_a_model_runs_does_not_change_the_fingerprint() -> None:
    slow = ModelsParams(nsfw=NsfwModelParams(revision=COMMIT, device="cpu", batch_size=1))
    fast = ModelsParams(nsfw=NsfwModelParams(revision=COMMIT, device="cuda:1", batch_size=256), directory="/models")
    assert Profile(models=slow).fingerprint == Profile(models=fast).fingerprint


def test_server_address_and_concurrency_do_not_change_the_fingerprint() -> None:
    here = OpenAIChatParams(kind="openai_chat", model="m", base_url="http://a:1/v1")
    there = OpenAIChatParams(kind="openai_chat", model="m", base_url="https://b/v1", concurrency=2, api_key_env="KEY")
    prints = {Profile(models=ModelsParams(captioner=server)).fingerprint for server in (here, there)}
    assert len(prints) == 1


def test_mount_point_of_a_directory_does_not_change_the_fingerprint_but_contents_do() -> None:
    def fingerprint(source: str, revision: str) -> str:
        return Profile(models=ModelsParams(nsfw=NsfwModelParams(source=source, revision=revision))).fingerprint

    assert fingerprint("/a", HASH) == fingerprint("/b", HASH) != fingerprint("/a", "cd" * 32)


def test_fingerprint_of_an_unresolved_directory_is_an_error_not_a_guess() -> None:
    profile = Profile(models=ModelsParams(nsfw=NsfwModelParams(source="/models/nsfw")))
    with pytest.raises(ValueError, match="/models/nsfw have not been hashed"):
        _ = profile.fingerprint


@pytest.mark.parametrize("url", ["ftp://a/v1", "http://user:secret@a/v1", "http://a/v1?key=secret", "a:8000/v1"])
def test_server_address_with_credentials_or_without_http_is_refused(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        OpenAIChatParams(kind="openai_chat", model="m", base_url=url)
    assert "is not an http(s) URL" in str(caught.value)


def test_captioner_of_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="openai_chat"):
        ModelsParams.model_validate({"captioner": {"kind": "git"}})
