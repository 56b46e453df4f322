"""Bad inputs over every command line and every file that is read.

    python -m tests.bad_inputs            # the whole list, on a small run that it makes first
    python -m tests.bad_inputs results    # the cases whose name has this word

Each must end in one line on stderr that names the flag or the file, with exit code 2, and must
change nothing on the disk. What is tolerated (a missing report.json is made anew, unknown fields of
a row are read over) is no bad input and not in the list. tests/test_bad_inputs.py samples the list.
"""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # for python -m tests.bad_inputs

import torch

import evaluate
import rcsd
from bad_files import Case, run_file_cases
from bad_own_files import own_file_cases
from bench import bench
from data import load, prepare
from exercises import check
from pretrained import save
from report import picture
from study import regrade, sweep, tables
from tiny import FLAGS, ROOT, STAGES
from trainer.settings import MOST, SHARES, Settings

PROGRAMS = {
    "rcsd.py": rcsd.main,
    "evaluate.py": evaluate.main,
    "prepare.py": prepare.main,
    "sweep.py": sweep.main,
    "tables.py": tables.main,
    "picture.py": picture.main,
    "bench.py": bench.main,
    "check.py": check.main,
    "data.load": load.main,
    "pretrained.save": save.main,
    "regrade.py": regrade.main,
}
SECONDS = 60  # for one case; all but a few take a tenth of one


# ---------------------------------------------------------------------------------------- the flags
def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def bad_values(field) -> list[str]:
    """Values that a setting must refuse."""
    if field.metadata["choices"]:
        return ["wise", "", "None"]
    if field.type is str:
        return []
    values = ["-1", "x", "", str(10 * MOST.get(field.name, 1) + 1)]
    if field.type is int:
        return values + ["1.5", "9" * 30] + ["0"] * (field.default != 0)
    return values + ["nan", "inf", "1e300"] + ["1.01"] * (field.name in SHARES)


def setting_cases() -> Iterator[Case]:
    for field in Settings.__dataclass_fields__.values():
        flag = flag_of(field.name)
        for value in bad_values(field):
            words = ["data", "--preset", "smoke", "--out", "{new}", f"{flag}={value}"]
            yield Case("setting", f"{flag} {value}", "rcsd.py", words, [flag])
        if values := bad_values(field):
            words = ["--preset", "smoke", "--out", "{run}", f"{flag}={values[0]}"]
            yield Case("setting of evaluate", f"{flag} {values[0]}", "evaluate.py", words, [flag])
    data = ["data", "--preset", "smoke", "--out", "{new}"]
    for words, named in (
        (["--n-embd", "1000000", "--n-layer", "1000"], "--n-embd"),
        (["--vocab-size", "1000000", "--n-embd", "1000000"], "--n-embd"),
        (["--n-head", "3", "--n-kv-head", "2"], "--n-head"),
        (["--head-dim", "31"], "--head-dim"),
        (["--max-new-tokens", "256"], "--max-new-tokens"),
        (["--clip", "0"], "--clip"),
        (["--clip-mode", "token", "--clip", "0"], "--clip"),
        (["--method", "wise"], "--method"),
        (["--method", "grpo", "--group-size", "3"], "--group-size"),
        (["--method", "grpo", "--group-size", "1"], "--group-size"),
        (["--method", "opsd", "--teacher-context", "answer"], "--teacher-context"),
        (["--vocab-size", "90"], "--vocab-size"),
        (["--temperature", "0.001"], "--temperature"),
        (["--temperature", "1e-45"], "--temperature"),
        (["--preset", "huge"], "--preset"),
        (["--width", "5"], "--width"),
        (["--lr"], "--lr"),
        (["--out", ""], "--out"),
        (["--out", str(ROOT)], "--out"),
        (["--out", str(ROOT / "data")], "--out"),
        (["--out", "{run}/results.json"], "results.json"),
        (["--out", "{run}/results.json/x"], "results.json"),
        (["--out", "{run}"], "--resume"),
        (["--from", ""], "--from"),
        (["--from", "{new}"], "--from"),
        (["--from", "{run}", "--out", "{run}"], "--from"),
        (["more"], "more"),
    ):
        yield Case("flags", " ".join(words), "rcsd.py", [*data, *words], [named])
    for words, named in (
        ([], "command"),
        (["stage3"], "stage3"),
        (["base", "--preset", "smoke", "--out", "{new}"], "no data yet"),
        (["stage1", "--preset", "smoke", "--out", "{new}"], "no data yet"),
        (["stage2", "--preset", "smoke", "--out", "{new}"], "no data yet"),
    ):
        yield Case("flags", " ".join(words), "rcsd.py", words, [named])


COMMANDS = {  # of the other programs: words and what the line must name
    "evaluate.py": [
        (["--out", "{new}"], "stage2.pt"),
        (["explain", "--out", "{new}"], "stage2.pt"),
        (["--out", ""], "--out"),
        (["explai"], "explai"),
        (["--summary"], "--summary"),
        (["--summary", ""], "--summary"),
        (["--summary", "{new}"], "results.json"),
        (["--summary", "{run}", "{new}"], "results.json"),
        (["--summary", "{run}/results.json"], "results.json"),
        (["--summary", "{run}", "--out", ""], "--out"),
        (["--pass-at", "0"], "--pass-at"),
        (["--pass-at", "x"], "--pass-at"),
        (["explain", "--out", "{run}", "--pass-at", "2"], "--pass-at"),
        (["--out", "{run}", "--judge"], "--judge"),
        (["--question", "Why?"], "explain"),
        (["--rubric", "x"], "explain"),
        (["--color"], "explain"),
        (["explain", "--out", "{run}", "--question", "Why?"], "--rubric"),
        (["explain", "--out", "{run}", "--rubric", ""], "--rubric"),
        (["explain", "--out", "{run}", "--rubric", "{new}"], "{new}"),
        (["explain", "--out", "{run}", "--rubric", "{run}"], "{run}"),
    ],
    "pretrained.save": [
        ([], "checkpoint"),
        (["{run}/stage2.pt"], "folder"),
        (["{new}", "{new}"], "{new}"),
        (["{run}/results.json", "{new}"], "results.json"),
        (["{run}/stage2.pt", "{new}"], "--model"),
        (["{run}/stage2.pt", str(ROOT / "data")], "data"),
        (["{run}/stage2.pt", "{new}", "--dtype", "int8"], "--dtype"),
    ],
    "prepare.py": [
        ([], "--out"),
        (["--show", "1", "--out", "{new}"], "--out"),
        (["--out", ""], "--out"),
        (["--out", str(ROOT / "data")], "--out"),
        (["--out", "{run}/results.json"], "results.json"),
        (["--show", "0"], "--show"),
        (["--show", "x"], "--show"),
        (["--show", "99999999999"], "--show"),
        (["--show", "1", "--seed", "-1"], "--seed"),
    ],
    "sweep.py": [
        (["--workers", "0"], "--workers"),
        (["--workers", "-3"], "--workers"),
        (["--workers", "x"], "--workers"),
        (["--workers", "1000000"], "--workers"),
        (["--preset", "huge"], "--preset"),
        (["--out", ""], "--out"),
        (["--out", str(ROOT / "study")], "--out"),
        (["--out", "{run}/results.json"], "results.json"),
        (["more"], "more"),
    ],
    "tables.py": [
        (["--runs", ""], "--runs"),
        (["--runs", "{new}", "--out", "{new}"], "{new}"),
        (["--runs", "{run}", "--out", "{new}"], "{run}"),
        (["--out", ""], "--out"),
        (["--out", str(ROOT / "study")], "--out"),
        (["--out", "{run}/results.json"], "results.json"),
        (["--readme", ""], "--readme"),
        (["--out", "{new}", "--readme", "{new}/x.md"], "x.md"),
        (["--out", "{new}", "--readme", "{run}"], "{run}"),
        (["--out", "{new}", "--readme", "{run}/base.pt"], "base.pt"),
        (["--out", "{new}", "--readme", "{run}/results.json"], "results.json"),
        (["more"], "more"),
    ],
    "picture.py": [
        ([], "DIR"),
        ([""], "DIR"),
        (["{new}"], "report.json"),
        (["{run}", "of another kind"], "of another kind"),
        (["{run}", "one-step", "more"], "more"),
        (["{run}/report.json"], "report.json"),
    ],
    "bench.py": [
        (["speed"], "speed"),
        (["loss", "speed"], "speed"),
        (["--device", "tpu"], "--device"),
        (["--out", ""], "--out"),
        (["--out", "{run}"], "--out"),
        (["--out", "{run}/base.pt/x.json"], "base.pt"),
        (["--readme", ""], "--readme"),
        (["--readme", "{new}"], "{new}"),
        (["--readme", "{run}"], "{run}"),
        (["--readme", "{run}/base.pt"], "base.pt"),
        (["--readme", "{run}/results.json"], "results.json"),
        (["--peak", "no such contender"], "--peak"),
        (["--rounds", "3"], "--rounds"),
    ],
    "check.py": [
        (["0"], "'0'"), (["99"], "'99'"), (["x"], "'x'"), ([""], "''"), (["1", "--all"], "--all"),
        (["-1"], "'-1'"),
    ],
    "data.load": [
        ([], "file"),
        ([""], "file"),
        (["{new}"], "{new}"),
        (["{run}"], "{run}"),
        (["{run}/base.pt"], "base.pt"),
        (["{run}/results.json"], "results.json"),
        (["{run}/base.jsonl", "more"], "more"),
    ],
    "regrade.py": [
        (["--out", ""], "--out"),
        (["--out", str(ROOT / "study")], "--out"),
        (["--out", "{new}"], "{new}"),
        (["--out", "{run}"], "runs.jsonl"),
        (["more"], "more"),
    ],
    "train.sh": [
        (["huge"], "huge"),
        (["smoke", "--out", ""], "--out"),
        (["smoke", "--out", "{new}", "--batch", "0"], "--batch"),
        (["smoke", "--out", "{new}", "--wide"], "--wide"),
        (["study", "--workers", "0"], "--workers"),
    ],
}  # fmt: skip


def command_cases() -> Iterator[Case]:
    for program, rows in COMMANDS.items():
        for words, named in rows:
            yield Case(f"flags of {program}", repr(words), program, words, [named])
    for name in MOST:
        if name in prepare.MOST_DATA:
            for value in ("-1", "x", "", "1.5", str(MOST[name] + 1)):
                words = ["--out", "{new}", f"{flag_of(name)}={value}"]
                yield Case("flags of prepare.py", words[-1], "prepare.py", words, [flag_of(name)])
    for value in ("-0.1", "1.5", "x", "", "nan"):
        words = ["--out", "{new}", f"--exposure-share={value}"]
        yield Case("flags of prepare.py", words[-1], "prepare.py", words, ["--exposure-share"])


def cases() -> list[Case]:
    return [*setting_cases(), *command_cases(), *run_file_cases(), *own_file_cases()]


# ------------------------------------------------------------------------------------------ the runs
def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file of a folder with its content, and every folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        found[str(path)] = path.read_bytes() if path.is_file() else None
    return found


def call(program: str, words: list[str]) -> tuple[int, str]:
    """Exit code and stderr of a command line."""
    if program == "train.sh":
        command = ["bash", str(ROOT / "train.sh"), *words]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # train.sh looks for packages
        environment = os.environ | {"PATH": path}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        return done.returncode, done.stderr
    errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = PROGRAMS[program](words)
        except SystemExit as stopped:
            code = stopped.code
    return code, errors.buffer.getvalue().decode("utf-8")


def make_run(out: Path) -> Path:
    """A tiny run of all stages, evaluated, in this process."""
    words = ["--out", str(out), *FLAGS]
    for name, stage in [("rcsd.py", [stage]) for stage in STAGES] + [("evaluate.py", [])]:
        code, errors = call(name, [*stage, *words])
        assert code == 0, errors
    return out


def too_long(*_) -> None:
    raise TimeoutError


def fault(case: Case, finished: Path) -> str:
    """What is wrong with how a case ends, or ""."""
    with tempfile.TemporaryDirectory() as folder:
        places = {"run": str(Path(folder, "run")), "new": str(Path(folder, "new"))}
        run = Path(shutil.copytree(finished, places["run"]))

        def fill(text: str) -> str:
            return re.sub(r"\{(run|new)\}", lambda match: places[match[1]], text)

        if case.spoil:
            case.spoil(run)
        before = snapshot(Path(folder))
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(SECONDS)
        try:
            code, errors = call(case.program, [fill(word) for word in case.words])
        except TimeoutError:
            return f"no end after {SECONDS} seconds"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
        lines = errors.splitlines()
        if code != 2:
            return f"exit code {code}: {lines[-1:]}"
        if len(lines) != 1:
            return f"{len(lines)} lines: {lines[:3]}"
        if missing := [word for word in map(fill, case.named) if word not in lines[0]]:
            return f"{missing[0]!r} is not named: {lines[0]}"
        after = snapshot(Path(folder))
        changed = [path for path in before | after if before.get(path, 0) != after.get(path, 0)]
        return f"changed {changed[0]}" if changed else ""


def main() -> int:
    """Run the cases whose name has all the words of the command line."""
    torch.set_num_threads(1)
    words, began = sys.argv[1:], time.monotonic()
    chosen = [case for case in cases() if all(word in str(case) for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run")
        faults = 0
        for case in chosen:
            if why := fault(case, run):
                faults += 1
                print(f"{str(case)[:150]}\n    {why}", flush=True)
    seconds = time.monotonic() - began
    print(f"{len(chosen) - faults} of {len(chosen)} bad inputs end as they should; {seconds:.0f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
