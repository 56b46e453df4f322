"""The commands of exercises/INVESTIGATIONS.md are accepted. Nothing is trained."""

import re
import shutil
import subprocess
import sys

import pytest

from tiny import ROOT
from trainer.command_line import settings_from, settings_parser

FOLDER = ROOT / "exercises"


def test_the_commands_of_the_investigations_are_accepted():
    """Each command parses with today's settings. Nothing is trained."""
    text = (FOLDER / "INVESTIGATIONS.md").read_text(encoding="utf-8")
    (shared,) = re.findall(
        r'^run\(\) .*python rcsd\.py (stage2 .*) --out out/"\$@"; }$', text, re.M
    )
    commands = re.findall(r"^run (\S+ --.*)", text, re.M)
    assert len(commands) >= 6
    parser = settings_parser("")
    parser.add_argument("command")
    for command in commands:
        command = command.split("#")[0].replace("$mode", "token").replace("$teacher", "ema")
        command = re.sub(r"\$\w+", "0.5", command)  # $rate, $beta
        settings_from(parser.parse_args(f"{shared} --out out/{command}".split()))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_shell_functions_of_the_investigations(tmp_path):
    """`run` gives rcsd.py the folder and the flags, `columns` prints: with a python that echoes."""
    text = (FOLDER / "INVESTIGATIONS.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```bash\n(.*?)```", text, re.S) if "() {" in block]
    script = "\n".join(blocks).replace("columns out/cpu/stage2.jsonl", "columns log.jsonl")
    (tmp_path / "log.jsonl").write_text(
        '{"step": 0, "loss": 0.5}\n{"step": 1, "correct": 1}\n', encoding="utf-8"
    )
    script += '\npython() { echo "$@"; }\nfor i in 1 2; do run a --rubrics reference; done'
    script = f"python() {{ '{sys.executable}' \"$@\"; }}\n" + script
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["0\t0.5\t\t\t", "1\t\t1\t\t"]
    bound = "--clip-mode scale --clip 0.05"
    shared = f"rcsd.py stage2 --preset cpu --batch 32 --eval-every 10 {bound} --from out/cpu"
    assert lines[2:] == [f"{shared} --out out/a --rubrics reference"] * 2
