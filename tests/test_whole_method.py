"""exercises/00_whole_method.py: it runs, the student learns, the rubric's token stands out, the
names are real."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "exercises" / "00_whole_method.py"
LINE = re.compile(r"step (\d+): (\d) of 5 right\. Nats a token:  (.+)")


def read(output):
    """Printed lines -> {step: (right answers, [(token, nats)])}."""
    result = {}
    for line in output.splitlines():
        step, right, tokens = LINE.fullmatch(line).groups()
        words = tokens.split()
        result[int(step)] = int(right), list(zip(words[::2], map(float, words[1::2])))
    return result


@pytest.mark.parametrize(
    "command", [["exercises/00_whole_method.py"], ["-m", "exercises.00_whole_method", "1"]]
)
def test_the_student_learns_what_only_the_rubric_says(command):
    done = subprocess.run(
        [sys.executable, "-X", "utf8", *command],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = read(done.stdout)
    assert list(printed) == [0, 20, 40, 60]
    right, tokens = printed[0]
    words, nats = zip(*tokens)
    assert right == 0
    assert " ".join(words) == "force = mass × distance <eos>"  # the rubric: uses acceleration
    assert nats[4] > 3 and nats[4] > 20 * max(nats[:4] + nats[5:])
    right, tokens = printed[60]
    words, after = zip(*tokens)
    assert right == 5
    assert " ".join(words) == "force = mass × acceleration <eos>"
    assert max(after) < 0.1 * nats[4]


def test_it_is_short_and_names_functions_that_exist():
    text = FILE.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= 90 and max(map(len, lines)) <= 100
    parts = [line for line in lines if re.match(r"# \d\. ", line)]
    assert [part[:4] for part in parts] == ["# 1.", "# 2.", "# 3.", "# 4.", "# 5."]
    for part in parts:
        names = re.findall(r"(\w+)\.(\w+)", part.partition(" -> ")[2])
        assert names, part
        for module, name in names:
            source = (ROOT / f"{module}.py").read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", source, re.M), (module, name)
