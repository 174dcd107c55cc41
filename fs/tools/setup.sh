#!/usr/bin/env bash
# Makes a bare Debian machine ready: Debian packages, the Python environment, the package in place.
# Needs git, make, Python 3.11 or newer and Rust; says in one sentence what is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf 'setup: %s\n' "$*" >&2; }

if ! command -v cargo >/dev/null; then
    say "Rust is missing: install it with 'curl https://sh.rustup.rs -sSf | sh'" \
        "(or your package manager), then run make again."
    exit 1
fi
rust_version=$(rustc --version | sed -E 's/rustc ([0-9]+)\.([0-9]+).*/\1 \2/')
read -r rust_major rust_minor <<<"$rust_version"
if ((rust_major == 1 && rust_minor < 95)); then
    say "Rust 1.95 or newer is needed and this is $(rustc --version):" \
        "run 'rustup update', then make again."
    exit 1
fi

# Command → Debian package: what the build and the tests use.
declare -A packages=([fusermount3]=fuse3 [fio]=fio [rsync]=rsync)
packages+=([sqlite3]=sqlite3 [git]=git [setpriv]=util-linux)
missing=()
# A compiler without the C library's files cannot link, and Debian only recommends them with gcc.
echo 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null || missing+=(gcc libc6-dev)
for command in "${!packages[@]}"; do
    command -v "$command" >/dev/null || missing+=("${packages[$command]}")
done
python=
for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [[ -z $python ]]; then
    say "Python 3.11 or newer is needed and this machine has none:" \
        "install python3.11 (or newer), then run make again."
    exit 1
fi
"$python" -c 'import ensurepip' 2>/dev/null || missing+=("python3-venv")
if ((${#missing[@]})); then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        say "installing ${missing[*]}"
        apt-get update -qq >/dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${missing[@]}" >/dev/null
    else
        say "these packages are missing; install them and run make again: ${missing[*]}"
        exit 1
    fi
fi

# Anew, too, if an earlier run was interrupted while it was made.
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check -q "$@"; }
pip install -c fs/tools/constraints.txt pip setuptools setuptools-rust
# The dependencies come from pyproject.toml, at the versions of the constraints file; the native
# module is built by make, so the package is put on the path instead of being built by pip.
.venv/bin/python fs/tools/requirements.py >.venv/requirements.txt
pip install -c fs/tools/constraints.txt -r .venv/requirements.txt
.venv/bin/python fs/tools/develop.py
touch .venv/ready
