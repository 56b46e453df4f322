"""A sample of the kills inside writes. See kills.py."""

import forks
from kills import SAMPLE
from tiny import ROOT


def test_a_sample_of_kills_inside_writes_ends_with_the_same_bits():
    """In a process of its own: a fork of one that has trained cannot train."""
    done = forks.run([str(ROOT / "tests" / "kills.py"), "--sample"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"{name}: killed" in done.stdout for name in SAMPLE)
