#!/usr/bin/env bash
# The tests, with the same set-up as train.sh. Flags go to pytest: bash tests/run.sh -k loss
# Two halves run side by side, a core each; the second half's report comes behind the first's.
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "$0")/.."
source tests/setup.sh
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# These run the commands whole, and take about as long as all others together.
slow=(files kills processes readme resume whole_path)

half() {  # the slow test files, or the others; more arguments go to pytest
  local which=$1 file kind mine=() code=0
  shift
  for file in tests/test_*.py; do
    kind=others
    if [[ " ${slow[*]} " == *" $(basename "${file#tests/test_}" .py) "* ]]; then kind=slow; fi
    if [ "$kind" = "$which" ]; then mine+=("$file"); fi
  done
  "$PYTHON" -m pytest "${mine[@]}" "$@" || code=$?
  if [ "$code" = 5 ]; then code=0; fi  # no test of this half was asked for
  return "$code"
}

report=$(mktemp)
first=0 second=0
half slow "$@" >"$report" 2>&1 &
other=$!
trap 'rm -f "$report"; pkill -P "$other" 2>/dev/null || true' EXIT
half others "$@" || first=$?
wait "$other" || second=$?
cat "$report"
exit $((first > second ? first : second))
