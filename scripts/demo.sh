#!/bin/sh
# Sets up .venv, builds an op from its recurrence and verifies the op against that recurrence.
#   sh scripts/demo.sh [SPEC]
set -eu
cd "$(dirname "$0")/.."
"${PYTHON:-python3}" scripts/environment.py
spec=${1:-specs/gated_delta_rule.yaml}
.venv/bin/python -m lincodegen build "$spec"
.venv/bin/python -m lincodegen verify "$spec" --quick
