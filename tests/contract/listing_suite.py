"""What every way to list a watched place keeps. A test module subclasses it and gives a ``place`` fixture."""

from __future__ import annotations

from typing import Protocol

import pytest

from consumers.paimon.landing.listing import Listing
from consumers.paimon.landing.objects import ObjectInfo


class PlaceUnderTest(Protocol):
    """A folder or a bucket, and a way to list it."""

    def listing(self) -> Listing: ...

    def put(self, name: str, content: bytes) -> None:
        """Write a whole object; ``name`` may hold slashes."""
        ...

    def remove(self, name: str) -> None: ...

    def settle(self) -> None:
        """Let so much time go by that what was put counts as complete."""
        ...

    def destroy(self) -> None:
        """Remove the place itself."""
        ...


class Looker:
    """Looks again and again, as a watch does, and remembers what it was given."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._after: str | None = None
        self.known: dict[tuple[str, str | None], ObjectInfo] = {}

    def look(self, *, from_the_beginning: bool = False) -> list[str]:
        """Return the names that a look brings which are not known yet, and know them from then on."""
        found = []
        after = None if from_the_beginning else self._after
        for page in self._listing.pages(after, lambda info: (info.uri, info.etag) in self.known):
            for info in page:
                self.known[info.uri, info.etag] = info
                found.append(info.uri.rpartition("/in/")[2])
        self._after = self._listing.next_after
        return sorted(found)


class ListingContract:
    def test_complete_objects_are_listed_with_their_size_and_once(self, place: PlaceUnderTest) -> None:
        place.put("a.mp4", b"one")
        place.put("deep/er/b.MKV", b"three")
        looker = Looker(place.listing())
        found = looker.look()
        place.settle()
        found += looker.look()
        assert sorted(found) == ["a.mp4", "deep/er/b.MKV"]
        assert sorted(info.size_bytes for info in looker.known.values()) == [3, 5]
        assert looker.look() == []
        assert looker.look(from_the_beginning=True) == []

    def test_what_is_no_video_is_passed_over(self, place: PlaceUnderTest) -> None:
        for name in ("notes.txt", "mp4", "a.mp4.part", "thumbs/a.jpg"):
            place.put(name, b"x")
        looker = Looker(place.listing())
        looker.look()
        place.settle()
        assert looker.look() == []

    def test_objects_that_come_later_are_found_by_the_next_look(self, place: PlaceUnderTest) -> None:
        looker = Looker(place.listing())
        for number in range(3):
            place.put(f"{number}.mp4", b"x" * (number + 1))
            found = looker.look()
            place.settle()
            found += looker.look()
            assert found == [f"{number}.mp4"]

    def test_changed_object_is_a_new_one(self, place: PlaceUnderTest) -> None:
        place.put("a.mp4", b"old")
        looker = Looker(place.listing())
        looker.look()
        place.settle()
        looker.look()
        place.put("a.mp4", b"newer")
        found = looker.look(from_the_beginning=True)
        place.settle()
        found += looker.look(from_the_beginning=True)
        assert found == ["a.mp4"]
        assert len(looker.known) == 2

    def test_removed_object_is_not_listed(self, place: PlaceUnderTest) -> None:
        place.put("a.mp4", b"x")
        place.put("b.mp4", b"x")
        place.remove("a.mp4")
        looker = Looker(place.listing())
        found = looker.look()
        place.settle()
        found += looker.look()
        assert found == ["b.mp4"]

    def test_order_of_arrival_costs_no_object_when_all_is_listed_again(self, place: PlaceUnderTest) -> None:
        looker = Looker(place.listing())
        found = []
        for name in ("z.mp4", "m.mp4", "a.mp4"):
            place.put(name, b"x")
            found += looker.look()
            place.settle()
            found += looker.look()
        found += looker.look(from_the_beginning=True)
        assert sorted(found) == ["a.mp4", "m.mp4", "z.mp4"]

    def test_names_in_other_scripts_with_spaces_and_signs_come_back_whole(self, place: PlaceUnderTest) -> None:
        names = ["ein film #1.mp4", "видео.mp4", "影片 100%.mp4", "a+b&c=d.mp4"]
        for name in names:
            place.put(name, b"x")
        looker = Looker(place.listing())
        looker.look()
        place.settle()
        looker.look()
        assert len(looker.known) == len(names)
        assert len({uri for uri, _ in looker.known}) == len(names)

    def test_place_that_is_gone_is_an_error_and_not_an_empty_one(self, place: PlaceUnderTest) -> None:
        listing = place.listing()
        place.put("a.mp4", b"x")
        place.destroy()
        with pytest.raises(Exception, match=r".+"):
            Looker(listing).look()
