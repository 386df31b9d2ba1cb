"""Objects as people know them: names as they are on disk or in a bucket, whatever a URI makes of them."""

from __future__ import annotations

from urllib.parse import unquote


def readable(uri: str) -> str:
    """Return a URI without its encoding: ``file:///d/a%20b.mp4`` is ``file:///d/a b.mp4``.

    Only ``file:`` URIs are encoded; a key of S3 is what it is.
    """
    return unquote(uri) if uri.startswith("file:") else uri


def object_name(uri: str) -> str:
    """Return the last part of a URI as a person knows the file: ``file:///d/a%20b.mp4`` is ``a b.mp4``.

    What would act on a terminal is replaced.
    """
    name = uri.rsplit("/", 1)[-1]
    if uri.startswith("file:"):
        # Not before: a name may have an encoded slash.
        name = unquote(name)
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
