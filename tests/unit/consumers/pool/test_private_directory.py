import os
import stat
import tempfile
from pathlib import Path

import pytest

from consumers.errors import ConfigurationError
from consumers.pool.embedded_ray import make_directory, remove_directory

HOUR_S = 3600


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A short folder for temporary files: Ray's sockets would not fit below a longer one."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_it_is_for_its_owner_alone_and_has_a_name_of_its_own(root):
    made = [make_directory() for _ in range(2)]
    assert {path.parent for path, _ in made} == {root}
    assert len({path for path, _ in made}) == 2
    for path, lock in made:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        remove_directory(path, lock)
    assert list(root.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(root):
    left, lock = make_directory()
    living, living_lock = make_directory()
    (left / "r").mkdir()
    lock.close()
    path, new_lock = make_directory()
    assert set(root.iterdir()) == {living, path}
    for folder, file in ((living, living_lock), (path, new_lock)):
        remove_directory(folder, file)


def test_one_that_is_just_being_made_is_left_alone(root):
    young, old = root / "sluice-ray-young", root / "sluice-ray-old"
    for folder in (young, old):
        folder.mkdir()
    os.utime(old, (0, 0))
    path, lock = make_directory()
    assert set(root.iterdir()) == {young, path}
    remove_directory(path, lock)


def test_a_link_in_its_place_is_not_followed(root, tmp_path):
    (root / "sluice-ray-planted").symlink_to(tmp_path)
    planted = root / "sluice-ray-inside"
    planted.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (planted / "lock").symlink_to(victim)
    path, lock = make_directory()
    assert list(tmp_path.iterdir()) == [victim]
    assert victim.read_text() == "kept"
    assert planted.is_dir()
    remove_directory(path, lock)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_directory_of_another_user_is_left_alone(root):
    foreign = root / "sluice-ray-foreign"
    foreign.mkdir()
    (foreign / "lock").touch()
    os.chown(foreign, 12345, 12345)
    path, lock = make_directory()
    assert foreign.is_dir()
    remove_directory(path, lock)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_folder_of_another_user_is_refused(root):
    os.chown(root, 12345, 12345)
    with pytest.raises(ConfigurationError, match="belongs to user id 12345"):
        make_directory()


def test_a_folder_in_which_all_may_write_wants_the_sticky_bit(root, caplog):
    root.chmod(0o1777)
    remove_directory(*make_directory())
    assert caplog.text == ""
    root.chmod(0o777)
    remove_directory(*make_directory())
    assert "no sticky bit" in caplog.text
