"""Files: atomic, appendable, readable after a kill."""

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
