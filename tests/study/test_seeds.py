import itertools

from gsvae_tune.study.seeds import derive, replicate_seed


def test_streams_are_stable_and_apart():
    # Pinned: a change here would silently change every study that exists.
    assert derive(0, "noise", 1) == 3423260132542533090
    paths = [(0, "a"), (0, "b"), (1, "a"), (0, "a", 1), (0, "a", "1"), (0, "a1"), (0, "a", 0, "b")]
    assert len({derive(*path) for path in paths}) == len(paths)
    assert all(0 <= derive(*path) < 2**63 for path in paths)


def test_phases_never_share_a_replicates_seed():
    seeds = [
        replicate_seed(0, phase, r)
        for phase, r in itertools.product(("search", "confirm"), range(500))
    ]
    assert len(set(seeds)) == 1000
