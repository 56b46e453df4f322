"""The grader gives the verdict of data/grader_cases.md on each of its rows."""

import re
from collections import Counter
from pathlib import Path

import pytest

from rubrics import CHECKS, Criterion, satisfied

TABLE = Path(__file__).resolve().parent.parent / "data" / "grader_cases.md"
ROW = re.compile(r"\| (right|wrong) +\| `(.*?)` \| `(.*)` \| (.+) \|")
CASES = []
for line in TABLE.read_text(encoding="utf-8").splitlines():
    if line.startswith(("| right", "| wrong")):
        CASES.append(ROW.fullmatch(line).groups())


def test_the_table_has_every_check_with_right_and_wrong_forms():
    kinds = Counter((verdict, check.partition(" ")[0]) for verdict, check, _, _ in CASES)
    assert set(kinds) == {(verdict, kind) for verdict in ("right", "wrong") for kind in CHECKS}
    assert Counter(verdict for verdict, *_ in CASES).most_common()[-1][1] >= 60
    assert len({case[:3] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("verdict, check, text, why", CASES)
def test_case(verdict, check, text, why):
    criterion = Criterion("", "Essential: x", 1, check)
    assert satisfied(criterion, text.replace("⏎", "\n")) == (verdict == "right"), why
