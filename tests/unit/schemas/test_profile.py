from fractions import Fraction

from schemas.profile import MotionParams, Profile, SceneParams, clip_id
from schemas.records import Span

SPAN = Span(0.0, 1.0, 0, 12800, Fraction(1, 12800), 0, 24)


def test_any_changed_parameter_changes_the_fingerprint() -> None:
    base = Profile()
    assert Profile(scene=SceneParams(threshold=28)).fingerprint != base.fingerprint
    assert Profile(motion=MotionParams(relative=True)).fingerprint != base.fingerprint


def test_name_alone_does_not_change_the_fingerprint() -> None:
    assert Profile(name="night").fingerprint == Profile(name="day").fingerprint


def test_clip_id_tells_source_row_span_and_profile_apart() -> None:
    other_span = Span(0.0, 1.0, 0, 12801, Fraction(1, 12800), 0, 24)
    ids = {
        clip_id("db.raw", 1, SPAN, "f"),
        clip_id("db.raw", 2, SPAN, "f"),
        clip_id("db.raw2", 1, SPAN, "f"),
        clip_id("db.raw", 1, other_span, "f"),
        clip_id("db.raw", 1, SPAN, "g"),
    }
    assert len(ids) == 5
    assert clip_id("db.raw", 1, SPAN, "f") == clip_id("db.raw", 1, SPAN, "f")
