"""Files: atomic, appendable, readable after a kill."""

import os

import pytest

from gsvae_tune.study.records import (
    ReplicateResult,
    TrialResult,
    TrialState,
    atomic_file,
    json_line,
    read_json,
    read_json_lines,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    def die():
        with atomic_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        die()
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_non_finite_numbers_become_null(tmp_path):
    write_json(tmp_path / "x.json", {"a": [float("nan"), 1.5, (float("inf"),)]})
    assert read_json(tmp_path / "x.json") == {"a": [None, 1.5, [None]]}


def test_a_journal_cut_anywhere_gives_its_whole_records(tmp_path):
    path = tmp_path / "epochs.jsonl"
    lines = [json_line({"epoch": n, "text": "ä"}) for n in range(3)]
    whole = b"".join(lines)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = sum(cut >= len(b"".join(lines[: n + 1])) for n in range(3))
        assert [record["epoch"] for record in read_json_lines(path)] == list(range(kept))


def test_results_round_trip(tmp_path):
    row = ReplicateResult(0, 7, "a", 20.5, 3.5, 8, False, False, None, 100)
    result = TrialResult(TrialState.COMPLETE, 20.5, None, 10, 100, 1.5, "cpu", [row])
    assert TrialResult.read(tmp_path / "result.json") is None
    result.write(tmp_path / "result.json")
    assert TrialResult.read(tmp_path / "result.json") == result


@pytest.mark.parametrize("line", [b"null", b"5", b"[]", b"[" * 200_000, b"{"])
def test_a_line_that_is_no_record_ends_the_reading(tmp_path, line):
    path = tmp_path / "epochs.jsonl"
    path.write_bytes(b'{"epoch": 1}\n' + line + b'\n{"epoch": 3}\n')
    assert list(read_json_lines(path)) == [{"epoch": 1}]


def test_json_beyond_reason_is_no_json(tmp_path):
    path = tmp_path / "study.json"
    path.write_bytes(b"[" * 200_000)
    with pytest.raises(ValueError, match="nested too deep"):
        read_json(path)


def test_a_link_that_lies_where_a_file_is_to_be_is_not_written_through(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    for name in ("result.json", f".result.json.{os.getpid()}.tmp"):
        (tmp_path / name).symlink_to(outside)
    write_json(tmp_path / "result.json", {"a": 1}, lasting=True)
    assert outside.read_text() == "mine"
    assert read_json(tmp_path / "result.json") == {"a": 1}
