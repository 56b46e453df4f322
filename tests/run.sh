#!/usr/bin/env bash
# The tests, with the same set-up as train.sh. Flags go to pytest: bash tests/run.sh -k loss
# Two runs side by side, a core each: each takes the next file that the other has not taken (see
# conftest.py). The second run's report comes behind the first's.
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "$0")/.."
source tests/setup.sh
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

TAKEN=$(mktemp -d)
export TAKEN
first=0 second=0
"$PYTHON" -m pytest "$@" >"$TAKEN/report" 2>&1 &
other=$!
trap 'kill "$other" 2>/dev/null || true; rm -rf "$TAKEN"' EXIT
"$PYTHON" -m pytest "$@" || first=$?
wait "$other" || second=$?
cat "$TAKEN/report"
exit $((first > second ? first : second))
