"""A sample of the kills inside writes. See kills.py."""

import os
import subprocess
import sys

from kills import SAMPLE
from tiny import ONE_THREAD, ROOT


def test_a_sample_of_kills_inside_writes_ends_with_the_same_bits():
    """In a process of its own: a fork of one that has trained cannot train."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", "--sample"],
        cwd=ROOT,
        env=os.environ | ONE_THREAD,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"{name}: killed" in done.stdout for name in SAMPLE)
