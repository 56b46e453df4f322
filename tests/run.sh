#!/usr/bin/env bash
# The tests, with the same set-up as train.sh. Flags go to pytest: bash tests/run.sh -k loss
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "$0")/.."
source tests/setup.sh
exec "$PYTHON" -m pytest tests "$@"
