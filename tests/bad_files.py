"""The bad inputs that are files of a run's own folder."""

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from data.reading import write_json
from report.results import RESULTS
from tiny import FLAGS
from trainer.checkpoints import load, save

Mutator = Callable[[Path], None]


@dataclass
class Case:
    kind: str
    name: str
    program: str
    words: list[str]
    """{run} stands for a copy of a finished run, {new} for a path beside it where nothing is."""
    named: list[str]
    """What the line must say."""
    spoil: Mutator | None = None
    """What is done to the copy before."""

    def __str__(self):
        return f"{self.kind}: {self.name}: {self.program} {' '.join(self.words)}"


# ------------------------------------------------------------------------------------ to any file
def replaced(content: bytes) -> Mutator:
    return lambda path: path.write_bytes(content)


def a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 + 1])


def flipped(path: Path) -> None:
    """One bit of a byte in the middle, so that a text stays a text."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


ANY = {
    "empty": replaced(b""),
    "noise": replaced(bytes(range(256)) * 4),
    "a text": replaced(b"not what is expected\n"),
    "a folder": a_folder,
    "cut": half,
}
JSON = ANY | {
    "{}": replaced(b"{}"),
    "[]": replaced(b"[]\n"),
    "null": replaced(b"null"),
    "a number": replaced(b"7\n"),
    "deep": replaced(b"[" * 100_000),
    "not UTF-8": replaced(b'{"a": "\xff"}\n'),
}


# ---------------------------------------------------------------------------------- to some lines
def lines_changed(change: Callable[[list[str]], list[str]]) -> Mutator:
    def spoil(path: Path) -> None:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        path.write_text("".join(line + "\n" for line in change(lines)), encoding="utf-8")

    return spoil


def second_line(text: str) -> Mutator:
    return lines_changed(lambda lines: [lines[0], text, *lines[2:]])


def second_row(**fields) -> Mutator:
    """Fields of the second row replaced; None: taken out."""

    def change(lines: list[str]) -> list[str]:
        row = json.loads(lines[1]) | fields
        row = {name: value for name, value in row.items() if value is not None}
        return [lines[0], json.dumps(row), *lines[2:]]

    return lines_changed(change)


ROWS = {
    "line 2 no JSON": second_line("{"),
    "line 2 a list": second_line("[1, 2]"),
    "line 2 empty": second_line(""),
    "line 2 empty object": second_line("{}"),
}
REORDERED = {
    "first line deleted": lines_changed(lambda lines: lines[1:]),
    "last line deleted": lines_changed(lambda lines: lines[:-1]),
    "two lines swapped": lines_changed(lambda lines: [lines[1], lines[0], *lines[2:]]),
    "a line twice": lines_changed(lambda lines: [lines[0], *lines]),
}


def on(name: str, spoil: Mutator, *removed: str) -> Mutator:
    """Spoil this file of a run; the files `removed`, which hide it, are taken away first."""

    def both(run: Path) -> None:
        for other in removed:
            (run / other).unlink(missing_ok=True)
        spoil(run / name)

    return both


def spoiled(name: str, spoils: dict, program: str, words: list, *removed: str) -> Iterator[Case]:
    for what, spoil in spoils.items():
        named = [name.split("/")[-1]]
        alone = f", without {removed[0]}" if removed else ""
        yield Case(name, what + alone, program, words, named, on(name, spoil, *removed))


def run_file_cases() -> Iterator[Case]:
    yield from data_cases()
    yield from checkpoint_cases()
    yield from result_cases()


def stage(name: str) -> list[str]:
    return [name, "--out", "{run}", "--resume", *FLAGS]


# ---------------------------------------------------------------------------------- the run's data
def data_cases() -> Iterator[Case]:
    every_change = ANY | REORDERED | {"flipped": flipped}
    evaluation = ["--out", "{run}", *FLAGS]
    for name in ("base", "stage1", "stage2", "valid", "test_known", "test_new", "test_hard"):
        path = f"data/{name}.jsonl"
        yield from spoiled(path, every_change, "rcsd.py", stage("stage2"))
        if name.startswith("test"):
            missing = {"missing": Path.unlink}
            yield from spoiled(path, every_change | missing, "evaluate.py", evaluation)
    tokenizer = every_change | {"missing": Path.unlink}
    yield from spoiled("data/tokenizer.txt", tokenizer, "rcsd.py", stage("stage1"))
    yield from spoiled("data/tokenizer.txt", every_change, "evaluate.py", evaluation)
    yield from spoiled("data/data.json", JSON | {"flipped": flipped}, "rcsd.py", stage("data"))
    yield from spoiled("data/data.json", JSON | {"flipped": flipped}, "evaluate.py", evaluation)
    # Without data.json, as data/prepare.py writes it, each reader has to look for itself.
    alone = ("data/data.json", "base.pt")
    bad_rows = {
        "no sections": second_row(sections=None),
        "sections a text": second_row(sections="question"),
        "sections empty": second_row(sections=[]),
        "an unknown section": second_row(sections=[["poem", "a"], ["solve", "b"]]),
        "a section of three": second_row(sections=[["question", "a", "b"]]),
        "a section of a number": second_row(sections=[["question", 7]]),
    }
    yield from spoiled("data/base.jsonl", ANY | ROWS | bad_rows, "rcsd.py", stage("base"), *alone)
    tests = {
        "no meta": second_row(meta={}),
        "meta without kind": second_row(meta={"new": True, "phrasing": "seen"}),
        "meta with a number": second_row(meta={"new": 1, "phrasing": "seen", "kind": "x"}),
        "no rubric": second_row(rubric=[]),
        "no answer": second_row(answer=""),
    }
    fresh = ("data/data.json", "results.json")
    yield from spoiled("data/test_new.jsonl", ANY | tests, "evaluate.py", evaluation, *fresh)
    explained = ["explain", "--out", "{run}", *FLAGS]
    yield from spoiled("data/test_new.jsonl", ANY | tests, "evaluate.py", explained, *fresh)


# ---------------------------------------------------------------------------------- the checkpoints
class Bomb:
    """A pickle that would write a file."""

    def __reduce__(self):
        return (Path.write_text, (Path("/tmp/bomb"), "boom"))


def bomb(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def torch_bomb(path: Path) -> None:
    torch.save(Bomb(), path)


def stored(value: object) -> Mutator:
    return lambda path: torch.save(value, path)


def edited(change: Callable[[dict], dict], sealed: bool = True) -> Mutator:
    """The content changed; `sealed`: with the digest that goes with it, as another version's."""

    def spoil(path: Path) -> None:
        content = change(load(path))
        save(path, content) if sealed else torch.save(content, path)

    return spoil


def first_weight(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], dict]:
    def changed(content: dict) -> dict:
        model = content["model"] | {"norm.weight": change(content["model"]["norm.weight"])}
        return content | {"model": model}

    return changed


CHECKPOINT = ANY | {
    "missing": Path.unlink,
    "flipped": flipped,
    "a pickle bomb": bomb,
    "a pickle bomb in torch's form": torch_bomb,
    "a list": stored([1, 2]),
    "None": stored(None),
    "a tensor": stored(torch.zeros(3)),
    "other keys": stored({"weight": torch.zeros(3)}),
    "a weight changed": edited(first_weight(lambda w: w + 1), sealed=False),
    "a setting changed": edited(lambda c: c | {"settings": c["settings"] | {"seed": 9}}, False),
    "unfinished": edited(lambda c: c | {"step": 1}),
    "steps a text": edited(lambda c: c | {"steps": "3"}),
    "settings a list": edited(lambda c: c | {"settings": []}),
    "an input missing": edited(lambda c: c | {"inputs": {}}),
    "a weight of another shape": edited(first_weight(lambda w: w[:-1])),
    "a weight of another dtype": edited(first_weight(torch.Tensor.double)),
    "a weight missing": edited(
        lambda c: c | {"model": {k: v for k, v in c["model"].items() if k != "norm.weight"}}
    ),
    "a weight too many": edited(lambda c: c | {"model": c["model"] | {"more": torch.zeros(1)}}),
    "config of another shape": edited(lambda c: c | {"config": c["config"] | {"n_embd": 64}}),
    "config of another version": edited(lambda c: c | {"config": c["config"] | {"width": 64}}),
    **{
        f"no {name}": edited(lambda c, name=name: {k: c[k] for k in c if k != name}, False)
        for name in ("step", "steps", "settings", "inputs", "config", "model", "digest")
    },
}
VERSIONS = {
    "an unknown setting": edited(lambda c: c | {"settings": c["settings"] | {"width": 9}}),
    "a setting of another type": edited(lambda c: c | {"settings": c["settings"] | {"seed": "0"}}),
    "a setting out of range": edited(lambda c: c | {"settings": c["settings"] | {"beta": 7.0}}),
}


def checkpoint_cases() -> Iterator[Case]:
    evaluation = ["--out", "{run}", *FLAGS]
    yield from spoiled("base.pt", CHECKPOINT, "rcsd.py", stage("stage1"))
    yield from spoiled("stage1.pt", CHECKPOINT, "evaluate.py", evaluation, "results.json")
    versions = CHECKPOINT | VERSIONS
    yield from spoiled("stage2.pt", versions, "evaluate.py", evaluation, "results.json")
    few = {name: CHECKPOINT[name] for name in ("empty", "cut", "a folder", "a pickle bomb")}
    started = ["stage2", "--from", "{run}", "--out", "{new}"]
    yield from spoiled("stage2.pt", few | VERSIONS, "rcsd.py", started)
    yield from spoiled("stage2.pt", few, "evaluate.py", ["explain", "--out", "{run}"])


# --------------------------------------------------------------------------- logs, rubrics, results
def field_changed(*names: str, to: object = None) -> Mutator:
    """A field of results.json, or deeper, taken out or replaced; with the digest that fits."""

    def spoil(path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        content.pop("digest")
        inner = content
        for name in names[:-1]:
            inner = inner[name]
        if to is None:
            del inner[names[-1]]
        else:
            inner[names[-1]] = to
        write_json(path, content)

    return spoil


def result_cases() -> Iterator[Case]:
    evaluation, summary = ["--out", "{run}", *FLAGS], ["--summary", "{run}"]
    log = {
        "no seconds": second_row(seconds=None),
        "seconds a text": second_row(seconds="1"),
        "loss a list": second_row(loss=[]),
        "loss NaN": second_row(loss=float("nan")),
        "another step": second_row(step=7),
        "a measure a text": second_row(tokens_per_s="fast"),
        **{name: REORDERED[name] for name in REORDERED if name != "a line twice"},
    }
    for name in ("base.jsonl", "stage1.jsonl", "stage2.jsonl"):
        spoils = ANY | ROWS | log | {"missing": Path.unlink}
        yield from spoiled(name, spoils, "evaluate.py", evaluation, "results.json")
    spoils = {name: (ANY | ROWS | log)[name] for name in ("empty", "line 2 a list", "loss NaN")}
    together = [*summary, "--out", "{new}"]
    yield from spoiled("stage2.jsonl", spoils, "evaluate.py", together)

    rubrics = {
        "no text": second_row(text=None),
        "text a number": second_row(text=7),
        "problem missing": second_row(problem=None),
        "another writer": second_row(writer="0123456789abcdef"),
        "no writer": second_row(writer=None),
        "a text that is no rubric": second_row(text="be good", problem=""),
        "another question": second_row(question="Why?"),
        "last line deleted": REORDERED["last line deleted"],
        "missing": Path.unlink,
    }
    learned = [*stage("stage2"), "--rubrics", "learned"]
    yield from spoiled("rubrics.jsonl", ANY | ROWS | rubrics, "rcsd.py", learned, "stage2.pt")

    fields = {f"no {name}": field_changed(name) for name in RESULTS}
    values = {
        "parameters a text": field_changed("parameters", to="many"),
        "seconds without stage1": field_changed("seconds", "stage1"),
        "seconds a text": field_changed("seconds", "base", to="1"),
        "accuracy without the student": field_changed("accuracy", "student"),
        "accuracy a list": field_changed("accuracy", to=[]),
        "an accuracy a text": field_changed("accuracy", "student", "new laws", to="1"),
        "settings of another version": field_changed("settings", "width", to=7),
        "answers a text": field_changed("answers", "student", to="12 N"),
        "stage1 without key": field_changed("stage1", "base", "new laws", "key"),
        "kinds a number": field_changed("kinds", "base", to=3),
    }
    broken = JSON | {"flipped": flipped}
    yield from spoiled("results.json", broken, "evaluate.py", evaluation)
    yield from spoiled("results.json", broken | fields | values, "evaluate.py", summary)
    missing = {"missing": Path.unlink}
    yield from spoiled("report.json", broken, "evaluate.py", evaluation)
    yield from spoiled("report.json", broken | missing, "picture.py", ["{run}"])
