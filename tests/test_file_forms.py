"""The same rows as JSON Lines, as a JSON array and as CSV; what is no such file says so."""

import json

import pytest

from data.load import load_examples

ROWS = [{"question": "2 + 2, or «more»?", "answer": "4"}, {"question": "3\n+ 3?", "answer": "6"}]
CSV = 'question,answer\n"2 + 2, or «more»?",4\n"3\n+ 3?",6\n'


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("a.json", json.dumps(ROWS, indent=1)),
        ("a.json", "\ufeff \n" + json.dumps(ROWS)),
        ("a.csv", CSV),
        ("a.csv", "\ufeff" + CSV.replace('\n"3', '\r\n"3')),
    ],
)
def test_each_form_gives_the_same_questions(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    examples, report = load_examples(tmp_path / name)
    found = [(e.question, e.answer) for e in examples]
    assert found == [(row["question"], row["answer"]) for row in ROWS] and report.kept == 2


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.parquet", b"PAR1\x00\x01", "got parquet: pandas.read_parquet"),
        ("a.json", b"[1, 2]", "a.json:1: line: expected a JSON object"),
        ("a.json", b'[{"question": "x"', "a.json:1: line: expected a JSON object"),
        ("a.csv", b"question,answer\n\xff,1\n", "a.csv:1: file: expected rows"),
        ("a.csv", b"frage,antwort\nwas?,4\n", "its fields: antwort, frage; data/README.md"),
        ("a.jsonl", b'{"frage": "was?"}', "its fields: frage; data/README.md"),
    ],
)
def test_what_is_no_data_file_says_what_was_expected(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        load_examples(tmp_path / name)
    assert said in str(error.value)
