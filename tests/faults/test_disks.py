"""A disk that fills, at one size after another, and one that cannot be written."""

import subprocess

import pytest

from tests.faults.conftest import Victim, assert_same_tables

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, to be enlarged."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", place]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    made = mount("size=20k")
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    yield place, lambda size: mount("remount", size)
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_pauses_the_study_and_says_what_it_needs(disk, study_file, reference):
    place, resize = disk
    victim = Victim(place, study_file, ["--cpus", 1])
    ended, stops = {}, 0
    for kilobytes in (20, 60, 120, 200, 300, 500, 800, 1300):
        resize(f"size={kilobytes}k")
        code, output = victim.run()
        assert code == 3, output
        assert "the disk is full" in output
        assert "needs: about" in output
        assert "MB are free" in output
        assert "run the same command again" in output
        now = victim.results()
        assert all(now[name] == content for name, content in ended.items())
        ended, stops = now, stops + 1
    assert ended  # some of it was done on the way
    resize("size=100m")
    victim.finish()
    assert_same_tables(victim.tables(), reference.tables())


def test_a_disk_that_cannot_be_written_is_said_at_once(disk):
    place, resize = disk
    assert not resize("ro").returncode
    code, output = Victim(place, "smoke").run()
    assert code == 2
    assert "cannot be written: Read-only file system" in output


def test_a_study_that_becomes_read_only_is_refused_and_kept(disk):
    place, resize = disk
    resize("size=100m")
    victim = Victim(place, "smoke", ["--until", "search"])
    victim.finish()
    before = victim.results()
    assert not resize("ro").returncode
    code, output = victim.run("--trials", 9)
    assert (code, victim.results()) == (2, before), output
    assert "cannot be written" in output
