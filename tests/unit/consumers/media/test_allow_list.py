from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.errors import ConfigurationError, UriNotAllowedError
from consumers.media.allow_list import AllowList, file_uri, local_path

LIST = AllowList(["/data/a", "s3://bucket/videos", "https://media.example/pub", "oss://lake"])
CHARACTERS = st.characters(codec="utf-8", exclude_characters="/\\%?#", exclude_categories=["C", "Z"])
NAME = st.text(CHARACTERS, min_size=1).filter(lambda text: text not in {".", ".."})


@pytest.mark.parametrize(
    "uri",
    [
        "/data/a/x.mp4",
        "/data/a",
        "/data//a/x.mp4",
        "file:///data/a/b/x.mp4",
        "file:/data/a/x.mp4",
        "FILE://localhost/data/a/my%20clip%231.mp4",
        "s3://bucket/videos/2026/x.mp4",
        "https://MEDIA.example:443/pub/x.mp4?signature=a%2Fb",
        "oss://lake/x.mp4",
    ],
)
def test_uri_under_a_prefix_passes(uri: str) -> None:
    LIST.check(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "x.mp4",
        "data/a/x.mp4",
        "/data/ab/x.mp4",
        "/data",
        "/data/a/../b/x.mp4",
        "/data/a/./x.mp4",
        "/data/a/%2e%2e/x.mp4",
        "/data/a/%252e%252e/x.mp4",
        "/data/a/b\\..\\x.mp4",
        "/data/a/x.mp4\x00.txt",
        "/data/a/x\n.mp4",
        " /data/a/x.mp4",
        "file:///etc/passwd",
        "file:///data/a/%2e%2e/%2e%2e/etc/passwd",
        "file:///data/a/..%2fb",
        "file://otherhost/data/a/x.mp4",
        "file://data/a/x.mp4",
        "file:data/a/x.mp4",
        "s3://bucket/videosx/x.mp4",
        "s3://bucket/other/x.mp4",
        "s3://Bucket/videos/x.mp4",
        "s3://key:secret@bucket/videos/x.mp4",
        "s3://bucket/videos/x#1.mp4",
        "s3://bucket/videos/a%2F..%2F..%2Fx",
        "s3a://bucket/videos/x.mp4",
        "http://media.example/pub/x.mp4",
        "https://media.example:8443/pub/x.mp4",
        "https://media.example@evil.example/pub/x.mp4",
        "https://media.example.evil.example/pub/x.mp4",
        "https://media.example\\@evil.example/pub/x.mp4",
        "https://media.example/pub/x.mp4#f",
        "https://media.example/pub/%2e%2e/private/x.mp4",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/x.mp4",
        "concat:/data/a/x.mp4|/etc/passwd",
        "javascript:alert(1)",
    ],
)
def test_uri_elsewhere_or_ambiguous_is_refused(uri: str) -> None:
    with pytest.raises(UriNotAllowedError):
        LIST.check(uri)


@pytest.mark.parametrize(
    "prefix",
    [
        "relative/folder",
        "/data/../etc",
        "http://localhost/videos",
        "http://api.localhost:80/",
        "http://127.0.0.1:9000/videos",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://0.0.0.0/",
        "http://[::1]/videos",
        "http://[::ffff:127.0.0.1]:80/",
        "http://[fe80::1]/",
        "http://169.254.169.254/",
        "https://user@host/videos",
    ],
)
def test_prefix_that_no_one_should_allow_is_a_configuration_error(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="allow-list"):
        AllowList([prefix])


def test_private_address_can_be_allowed_by_name() -> None:
    AllowList(["http://10.1.2.3:9000/videos", "http://[fd00::1]/v"]).check("http://10.1.2.3:9000/videos/x.mp4")


def test_empty_list_allows_nothing() -> None:
    with pytest.raises(UriNotAllowedError, match="allowed: none"):
        AllowList([]).check("/data/a/x.mp4")


def test_refusal_names_uri_and_what_is_allowed() -> None:
    with pytest.raises(UriNotAllowedError, match=r"'/etc/passwd' is not under an allowed prefix .*/data/a"):
        LIST.check("/etc/passwd")


def test_symlink_out_of_the_folder_is_refused_and_one_within_passes(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "x.mp4").touch()
    (outside / "y.mp4").touch()
    (inside / "alias.mp4").symlink_to(inside / "x.mp4")
    (inside / "escape.mp4").symlink_to(outside / "y.mp4")
    (inside / "folder").symlink_to(outside)
    allowed = AllowList([str(inside)])
    allowed.check(str(inside / "alias.mp4"))
    for path in (inside / "escape.mp4", inside / "folder" / "y.mp4"):
        with pytest.raises(UriNotAllowedError, match="symbolic link"):
            allowed.check(file_uri(path))


def test_folder_that_is_itself_a_symlink_can_be_allowed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    AllowList([str(tmp_path / "link")]).check(str(tmp_path / "link" / "x.mp4"))


@pytest.mark.parametrize("name", ["x.mp4", "my clip.mp4", "50% #1?.mp4", "名前 é.mp4", "a+b;c.mp4"])
def test_file_uri_of_any_name_leads_back_to_the_file_and_is_allowed(tmp_path: Path, name: str) -> None:
    uri = file_uri(tmp_path / name)
    assert uri.isascii()
    assert local_path(uri) == tmp_path / name
    AllowList([str(tmp_path)]).check(uri)


def test_local_path_of_a_plain_path_is_literal_and_of_a_store_is_none() -> None:
    assert local_path("/data/a%20b.mp4") == Path("/data/a%20b.mp4")
    assert local_path("file:/data/a%20b.mp4") == Path("/data/a b.mp4")
    assert local_path("s3://bucket/x") is None


@given(st.lists(NAME, min_size=1, max_size=4), st.lists(NAME, min_size=1, max_size=4))
def test_a_prefix_allows_exactly_the_paths_that_begin_with_its_components(prefix: list[str], other: list[str]) -> None:
    allowed = AllowList(["s3://bucket/" + "/".join(prefix)])
    allowed.check("s3://bucket/" + "/".join([*prefix, *other]))
    if other[: len(prefix)] != prefix:
        with pytest.raises(UriNotAllowedError):
            allowed.check("s3://bucket/" + "/".join(other))


@given(st.lists(st.sampled_from(["..", ".", "a", "%2e%2e", "%2E.", "..%2f", "x%5c", "%252e%252e", ""]), max_size=8))
def test_no_path_that_passes_leaves_the_folder_however_often_it_is_decoded(parts: list[str]) -> None:
    uri = "s3://bucket/videos/" + "/".join(parts)
    try:
        LIST.check(uri)
    except UriNotAllowedError:
        return
    assert set(parts) <= {"a", ""}


@given(NAME)
def test_encoding_of_a_file_uri_makes_no_difference(name: str) -> None:
    LIST.check("file:///data/a/" + quote(name))
    with pytest.raises(UriNotAllowedError):
        LIST.check("file:///data/" + quote(name + "x"))
