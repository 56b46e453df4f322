"""Kills inside writes: every command stopped at each write, flush and rename, then run again.

    python -m tests.kills             # the whole list, on a tiny run
    python -m tests.kills --sample    # one of each command, as the tests do
    python -m tests.kills stage2      # those of one command

A write that is killed leaves half of its bytes. After the same command has run again, every file
must have the bits of an undisturbed run (times apart), and no other file may be there. The commands
run in forks of this process, which therefore never trains itself.
"""

import builtins
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # for python -m tests.kills

import torch
import torch._dynamo  # what each optimizer imports: here once, not in every fork

import evaluate
import rcsd
from report.page import page
from study import sweep, tables
from study.runs import Plan, Run
from study_rows import everything, save
from tiny import FLAGS, STAGES, TINY
from trainer.checkpoints import load, seal

TIMES = ("seconds", "tokens_per_s", "peak_mb", "digest", "made_from")  # differ from run to run
PLAN = Plan(
    [[Run("sft", dict(method="sft"), (0,))]],
    dict(batch=8, stage2_steps=2, eval_every=1),
    TINY | dict(stage1_questions=24, stage2_questions=24, test_questions=24, save_seconds=1000.0),
    dict(sft=0.001),
    (),
)


# ------------------------------------------------------------------------------------- a kill at k
class Killer:
    """Counts what touches the disk, and kills this process in the k-th of it."""

    def __init__(self, k: int | None):
        self.k, self.names = k, []

    def step(self, name: str, first_half: Callable[[], None] = lambda: None) -> None:
        self.names.append(name)
        if len(self.names) == self.k:
            first_half()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self, folder: Path) -> None:
        real_open = builtins.open

        def watched_open(path, mode="r", *arguments, **options):
            file = real_open(path, mode, *arguments, **options)
            inside = isinstance(path, (str, Path)) and str(path).startswith(str(folder))
            return Watched(file, self) if inside and mode[0] in "wax" else file

        builtins.open = watched_open
        for name in ("fsync", "replace", "symlink"):
            setattr(os, name, self.watched(name, getattr(os, name)))

    def watched(self, name: str, function: Callable) -> Callable:
        def call(*arguments, **options):
            self.step(name)
            return function(*arguments, **options)

        return call


class Watched:
    """A file whose writes are counted."""

    def __init__(self, file, killer: Killer):
        self.file, self.killer = file, killer

    def write(self, content):
        def first_half() -> None:
            self.file.write(content[: len(content) // 2])
            self.file.flush()

        self.killer.step("write", first_half)
        return self.file.write(content)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def in_fork(action: Callable[[], int], folder: Path, k: int | None) -> tuple[int, list[str]]:
    """Run a command in a fork, killed at its k-th step: (exit status, names of the steps)."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            errors = os.open(folder.parent / "errors.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(quiet, 1)
            os.dup2(errors, 2)
            killer = Killer(k)
            killer.install(folder)
            status = action()
            os.write(tell, json.dumps(killer.names).encode())
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    os.close(tell)
    with os.fdopen(told, "rb") as pipe:
        names = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), json.loads(names or b"[]")


# ------------------------------------------------------------------------------------- the commands
class Inline:
    """Stands in for the study's worker processes: a job is done at once."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, work, *arguments):
        future = Future()
        future.set_result(work(*arguments))
        return future


def study(out: Path) -> int:
    sweep.ProcessPoolExecutor = Inline
    sweep.Study(out, "smoke", PLAN).go(1)
    return 0


def study_tables(out: Path) -> int:
    return tables.main(["--runs", str(out / "runs.jsonl"), "--out", str(out / "made")])


def stage(name: str) -> Callable[[Path], int]:
    flags = ["--resume", "--save-seconds", "0"]
    return lambda out: rcsd.main([name, "--out", str(out), *FLAGS, *flags])


def linked(out: Path) -> int:
    flags = ["--from", str(out.parent.parent / "finished"), "--resume", "--save-seconds", "0"]
    return rcsd.main(["stage2", "--out", str(out), *FLAGS, *flags, "--method", "sft"])


COMMANDS: dict[str, tuple[Callable[[Path], int], tuple[str, ...]]] = {
    # a command, and what it starts from of a finished run
    "data": (stage("data"), ()),
    "base": (stage("base"), ("data",)),
    "stage1": (stage("stage1"), ("data", "base.pt", "base.jsonl")),
    "stage2": (stage("stage2"), ("data", "base.*", "stage1.*", "rubrics.jsonl")),
    "stage2 --from": (linked, ()),
    "evaluate": (
        lambda out: evaluate.main(["--out", str(out), *FLAGS]),
        ("data", "*.pt", "*.jsonl"),
    ),
    "explain": (
        lambda out: evaluate.main(["explain", "--out", str(out), *FLAGS]),
        ("data", "*.pt"),
    ),
    "report": (
        lambda out: evaluate.main(["--out", str(out), *FLAGS]),
        ("data", "*.pt", "*.jsonl", "results.json"),
    ),
    "study": (study, ()),
    "study.tables": (study_tables, ("runs.jsonl",)),
}


SAMPLE = ("data", "base", "stage2", "evaluate")


def start(finished: Path, out: Path, names: tuple[str, ...]) -> None:
    """A folder with these parts of the finished run."""
    out.mkdir(parents=True)
    for pattern in names:
        for path in finished.glob(pattern):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, out / path.name)
    if names == ("runs.jsonl",):
        save(out / "runs.jsonl", everything())


def timeless(value):
    """JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def content(folder: Path) -> dict[str, object]:
    """What each file of a folder holds, times apart."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name, text = str(path.relative_to(folder)), None
        if path.suffix == ".pt" and path.exists():
            text = seal(load(path))
        elif path.suffix in (".json", ".jsonl"):
            lines = [path.read_text(encoding="utf-8")]
            rows = lines[0].splitlines() if path.suffix == ".jsonl" else lines
            text = repr([timeless(json.loads(row)) for row in rows])
        elif path.suffix == ".html":  # drawn from the JSON beside it
            report = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            text = path.read_text(encoding="utf-8") == page(report) + "\n"
        elif path.is_file() and path.suffix != ".log":
            text = path.read_bytes()
        found[name] = text
    return found


def chosen_steps(names: list[str], sample: bool) -> list[int]:
    """The steps to kill at, from 1: all but most of the writes of long files."""
    steps, written = [], 0
    for k, name in enumerate(names, 1):
        written = written + 1 if name == "write" else 0  # writes without another step between
        if written <= 2 or written % 100 == 0:
            steps.append(k)
    return steps[len(steps) // 2 :][:1] if sample else steps


def fault(name: str, out: Path, k: int, expected: dict) -> str:
    """What is wrong after a command was killed in its k-th step and run again, or ""."""
    command, parts = COMMANDS[name]
    shutil.rmtree(out, ignore_errors=True)
    start(out.parent.parent / "finished", out, parts)
    if in_fork(lambda: command(out), out, k)[0] != -signal.SIGKILL:
        return "it was not killed"
    if in_fork(lambda: command(out), out, None)[0] != 0:
        return (out.parent / "errors.txt").read_text().splitlines()[-1]
    found = content(out)
    changed = [path for path in found | expected if found.get(path, 0) != expected.get(path, 0)]
    return f"other bits: {', '.join(changed)}" if changed else ""


def main() -> int:
    """Run the commands that the command line names, or all; returns the exit code."""
    torch.set_num_threads(1)
    sample, wanted = "--sample" in sys.argv, [a for a in sys.argv[1:] if a in COMMANDS]
    chosen = wanted or (SAMPLE if sample else list(COMMANDS))
    began, kills, faults, whole = time.monotonic(), 0, 0, {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in dict.fromkeys([*STAGES, "evaluate", *chosen]):  # undisturbed
            command, parts = COMMANDS[name]
            if name in (*STAGES, "evaluate"):
                out = place / "finished"
            else:
                out = place / name.replace(" ", "") / "run"
                start(place / "finished", out, parts)
            status, steps = in_fork(lambda: command(out), out, None)
            assert status == 0, (out.parent / "errors.txt").read_text()
            whole[name] = steps, content(out)
        for name in chosen:
            steps, expected = whole[name]
            out, killed = place / name.replace(" ", "") / "run", chosen_steps(steps, sample)
            killed = killed[::5] if name == "study" else killed  # its stages have had their turn
            for k in killed:
                kills += 1
                if why := fault(name, out, k, expected):
                    faults += 1
                    print(f"{name}, killed in step {k} ({steps[k - 1]}): {why}", flush=True)
            print(f"{name}: killed {len(killed)} times in {len(steps)} steps", flush=True)
    seconds, cpu = time.monotonic() - began, sum(os.times()[:4])
    print(
        f"{kills - faults} of {kills} kills end with the same bits; {seconds:.0f} s, CPU {cpu:.0f} s"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
