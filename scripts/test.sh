#!/bin/sh
# Sets up .venv and runs the tests that need neither a GPU nor many minutes.
#   sh scripts/test.sh [PYTEST ARGUMENTS]               tests/derive, -k clock, -m gpu ...
#   TRITON_VERSION=3.9.0 sh scripts/test.sh -m smoke    under another Triton
set -eu
cd "$(dirname "$0")/.."
"${PYTHON:-python3}" scripts/environment.py ${TRITON_VERSION:+--triton "$TRITON_VERSION"}
if [ -n "${TRITON_VERSION:-}" ]; then
    export PYTHONPATH="$PWD/.triton-$TRITON_VERSION"
fi
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest -n 2 -m "not slow and not gpu" "$@"
