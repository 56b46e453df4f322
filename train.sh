#!/usr/bin/env bash
# From a fresh machine to a rubric-taught student. See --help.
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "$0")"

usage() {
  cat <<'TEXT'
bash train.sh [auto|cpu|gpu|quick|smoke|own] [flags for rcsd.py and evaluate.py, such as --seed 1 or --out DIR]
bash train.sh study [--quick]

  Runs the whole method and prints one table at the end:
    data      questions, solutions and rubrics from tables of laws and causes; a tokenizer trained on them
    base      stage 0: a small GPT that can read rubrics and write them
    stage1    stage I: learn to write rubrics for what the base does not know
    stage2    stage II: learn to answer such questions from these rubrics
    evaluate  base, teacher and student on the test sets

  own    your own: pretrained weights with --model DIR, questions with --data FILE (see docs/pretrained.md)
  auto   gpu with CUDA, else cpu (the default)
  cpu    45 to 75 minutes on two cores
  gpu    a larger model and longer text
  quick  cpu without stage 0, from the base that is shipped: a first result in minutes
  smoke  the same path in under two minutes, to see that it runs; its numbers mean nothing
  study  all methods, controls and ablations over several seeds, side by side; tables and pictures in out/study
         (--quick: a small one, in out/study-quick; `python -m study.sweep --help` lists its flags)

  PROCESSES=4 bash train.sh gpu   trains on four GPUs of this machine (see docs/devices.md)

  Uses the current Python if it has the packages of requirements.txt, otherwise makes .venv and installs them there.
  Relative paths in flags count from this folder.
  Finished steps are not repeated and an interrupted one resumes: just run it again. Results lie in out/PRESET.
  `python rcsd.py --help` lists the flags. `bash tests/run.sh` runs the tests.
TEXT
}

run() {  # a command that ends when this script is told to end; Ctrl-C lets it say how to go on
  set -m  # a process group of its own
  "$@" &
  set +m
  trap "kill -TERM -- -$! 2>/dev/null; exit 143" TERM HUP
  trap "kill -INT -- -$! 2>/dev/null; wait $!; exit 130" INT
  wait $!
}

main() {  # a function, so that bash has read all of this file before it runs for minutes
  local preset=auto stage
  case "${1:-}" in
    -h|--help) usage; exit 0 ;;
    auto|cpu|gpu|quick|smoke|own|study) preset=$1; shift ;;
    -*|"") ;;
    *) echo "train.sh: unknown preset '$1', expected auto, cpu, gpu, quick, smoke, own or study (see --help)" >&2; exit 2 ;;
  esac

  source tests/setup.sh
  if [ "$preset" = study ]; then exec "$PYTHON" -m study.sweep "$@"; fi
  if ! [[ "${PROCESSES:-1}" =~ ^[1-9][0-9]?$ ]]; then
    echo "train.sh: PROCESSES: expected a whole number from 1 to 99, got '$PROCESSES'" >&2; exit 2
  fi
  local launch=("$PYTHON")
  if [ "${PROCESSES:-1}" != 1 ]; then
    launch+=(-m torch.distributed.run --standalone --nproc_per_node="$PROCESSES")
  fi
  for stage in data base stage1 stage2; do
    run "${launch[@]}" rcsd.py "$stage" --preset "$preset" --resume "$@"
  done
  run "${launch[@]}" evaluate.py --preset "$preset" "$@"
  if [ "$preset" = smoke ]; then echo "smoke: everything ran; a model this small learns nothing, so its zeros mean nothing"; fi
  echo "train.sh: $((SECONDS / 60)) min $((SECONDS % 60)) s"
}

main "$@"; exit
