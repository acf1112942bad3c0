#!/bin/sh
# Make .venv with a Python that is new enough, or say what is missing. Arguments: the Python, the directory.
set -eu
python=$1
venv=$2

say() { printf '%s\n' "$*" >&2; }

if ! command -v "$python" >/dev/null 2>&1; then
    say "There is no '$python' here. Install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3"
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "$("$python" --version) is too old: 3.11 or newer is needed. Name one: make setup PYTHON=/path/to/python3.11"
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    say "$("$python" --version) here cannot make virtual environments. Run: sudo apt-get install python3-venv"
    exit 1
fi
# --clear: what an interrupted attempt left behind is no use.
exec "$python" -m venv --clear "$venv"
