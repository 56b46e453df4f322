# Sourced by train.sh and tests/run.sh: sets PYTHON to one that has the packages, making .venv if there is none.
has_packages() {
  "$1" -c 'import sys, torch, tiktoken, numpy, tqdm, pytest
assert sys.version_info >= (3, 11) and hasattr(torch.optim, "Muon")' >/dev/null 2>&1
}

export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-10000}"  # threads that wait by spinning for longer crawl when anything else runs
# glibc: keep freed memory instead of returning it, or each step writes to 6,000 fresh pages (about a twelfth of its time).
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-1073741824}" MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-33554432}"
PYTHON=
for candidate in python python3 .venv/bin/python; do
  if command -v "$candidate" >/dev/null && has_packages "$candidate"; then PYTHON=$candidate; break; fi
done
if [ -z "$PYTHON" ]; then
  command -v python3 >/dev/null || { echo "setup: python3 not found; install Python 3.11 or later" >&2; exit 2; }
  echo "setup: installing the packages of requirements.txt into .venv"
  python3 -m venv .venv && .venv/bin/python -m pip install --quiet -r requirements.txt ||
    { echo "setup: could not install the packages into .venv (see above)" >&2; exit 2; }
  PYTHON=.venv/bin/python
fi
