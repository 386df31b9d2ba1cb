"""When a row and an object contradict each other, and when nothing can be said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.object_version import ObjectVersion, normal_etag

A, B = "0123456789abcdef" * 2, "fedcba9876543210" * 2


@pytest.mark.parametrize(
    ("found", "size_bytes", "etag"),
    [
        (ObjectVersion(10, A), 11, A),
        (ObjectVersion(10, A), 11, None),
        (ObjectVersion(10, A), 10, B),
        (ObjectVersion(10, A), None, B.upper()),
        (ObjectVersion(10, f"{A}-2"), 10, f"{B}-2"),
        (ObjectVersion(10, f"{A}-2"), 10, f"{A}-3"),
        (ObjectVersion(10, "10-1700000000000000001"), 10, "10-1700000000000000000"),
    ],
)
def test_another_version_is_told_with_both_figures(found: ObjectVersion, size_bytes: int | None, etag: str) -> None:
    told = found.contradiction(size_bytes, etag)
    assert told is not None
    assert "and the row says" in told


@pytest.mark.parametrize(
    ("found", "size_bytes", "etag"),
    [
        (ObjectVersion(10, A), 10, A),
        (ObjectVersion(10, A), None, None),
        (ObjectVersion(10, A), 0, ""),
        (ObjectVersion(10, A), -1, None),
        (ObjectVersion(10, A), 10, f'"{A.upper()}"'),
        (ObjectVersion(10, A), 10, f'W/"{A}"'),
        # Uploaded in parts, and a digest of the content: the same bytes, for all that can be known.
        (ObjectVersion(10, f"{A}-2"), 10, B),
        (ObjectVersion(10, A), 10, f"{B}-2"),
        (ObjectVersion(10, "10-1700000000000000001"), 10, A),
        (ObjectVersion(10, A), 10, "10-1700000000000000001"),
        (ObjectVersion(10, A), 10, "v7"),
        (ObjectVersion(10, A), 10, "sha256:" + A + B),
        (ObjectVersion(10, ""), 10, A),
        (ObjectVersion(10, "opaque-1"), 10, "opaque-2"),
    ],
)
def test_what_cannot_be_compared_condemns_nothing(found: ObjectVersion, size_bytes: int | None, etag: str) -> None:
    assert found.contradiction(size_bytes, etag) is None


@given(st.text(max_size=60), st.text(max_size=60))
def test_only_etags_of_one_known_form_contradict(told: str, found: str) -> None:
    if ObjectVersion(1, found).contradiction(1, told) is not None:
        assert normal_etag(told) != normal_etag(found)
        assert any(character in "0123456789abcdef" for character in normal_etag(told))


@given(st.text(max_size=60))
def test_an_etag_never_contradicts_itself_however_it_is_quoted(etag: str) -> None:
    assert ObjectVersion(1, normal_etag(etag)).contradiction(1, etag) is None
