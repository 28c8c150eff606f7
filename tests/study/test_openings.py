"""The sealed test split: every opening is written down first, a second one needs a reason."""

import pytest

from gsvae_tune.study.errors import InputError
from gsvae_tune.study.openings import FIRST, open_for, read_openings, refuse_second, reopened
from gsvae_tune.study.paths import StudyPaths

A, B, C = ("pair", 3), ("fixed-factor", 1), ("pair", 7)


@pytest.fixture
def paths(tmp_path):
    return StudyPaths(tmp_path)


def test_an_opening_is_written_down_with_time_and_reason(paths):
    opened = open_for(paths, [A, B], None, 6)
    assert list(opened) == [A, B]
    lines = read_openings(paths)
    assert [(line.arm, line.number, line.reason, line.again) for line in lines] == [
        (*A, FIRST, False), (*B, FIRST, False),
    ]  # fmt: skip
    assert lines[0].time.endswith("+00:00")
    assert opened[A].mark is None


def test_one_that_was_not_finished_goes_on_under_its_opening(paths):
    first = open_for(paths, [A, B], None, 6)
    assert open_for(paths, [B], None, 6) == {B: first[B]}
    assert len(read_openings(paths)) == 2


def test_another_configuration_after_that_is_refused(paths):
    open_for(paths, [A, B], None, 6)
    before = paths.openings.read_bytes()
    with pytest.raises(InputError) as caught:
        open_for(paths, [C], None, 8)
    for part in ("the test split was opened on", "--until confirm", "--reopen-test", "--seed"):
        assert part in str(caught.value)
    assert paths.openings.read_bytes() == before
    with pytest.raises(InputError, match="after 6 trials; what 3 more find"):
        refuse_second(paths, None, 9)
    refuse_second(paths, None, 6)  # nothing was searched since


def test_a_search_that_went_on_marks_the_result_whatever_is_best_now(paths):
    assert reopened(paths, 6) is None
    open_for(paths, [A, B], None, 6)
    assert reopened(paths, 6) is None
    assert reopened(paths, 7) == "the search went on after it"
    open_for(paths, [C], "a reviewer asked", 7)
    assert reopened(paths, 7) == "a reviewer asked"


def test_the_record_cannot_go_missing_unseen(paths):
    open_for(paths, [A], None, 6)
    folder = paths.trial(*A, "confirm")
    folder.root.mkdir(parents=True)
    folder.test.write_text("{}")
    paths.openings.write_text('{"time": "now"}\n')
    with pytest.raises(InputError, match=r"test-openings.jsonl: is damaged"):
        read_openings(paths)
    paths.openings.unlink()
    with pytest.raises(InputError, match="is missing: it is the record of who saw"):
        open_for(paths, [B], None, 6)


def test_with_a_reason_it_is_opened_and_marked(paths):
    open_for(paths, [A], None, 6)
    opened = open_for(paths, [A, C], "a reviewer asked", 8)
    assert opened[C].mark == "a reviewer asked"
    assert opened[A].mark is None  # its own opening was the first
    assert [line.again for line in read_openings(paths)] == [False, True]


def test_a_reason_given_at_the_first_opening_marks_nothing(paths):
    assert open_for(paths, [A], "I always say why", 6)[A].mark is None


def test_a_torn_last_line_does_not_hide_later_openings(paths):
    open_for(paths, [A], None, 6)
    with paths.openings.open("ab") as file:
        file.write(b'{"time": "2026-')
    open_for(paths, [B], "again", 7)
    assert [(o.arm, o.number) for o in read_openings(paths)] == [A, B]


@pytest.mark.parametrize("content", ["", "{\n", "null\n"])
def test_openings_that_lack_what_was_measured_are_damaged(tmp_path, content):
    """Emptied, the file would say that nobody has seen the test split."""
    paths = StudyPaths(tmp_path)
    folder = paths.trial("pair", 0, "confirm")
    folder.root.mkdir(parents=True)
    open_for(paths, [("pair", 0)], None, 3)
    folder.test.write_text("{}")
    assert len(read_openings(paths)) == 1
    paths.openings.write_text(content)
    with pytest.raises(InputError, match="is damaged: it lacks what was measured"):
        read_openings(paths)
