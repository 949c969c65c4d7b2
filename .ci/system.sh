#!/usr/bin/env bash
# Make sure that programs exist which no Python package brings. Installs them through apt where we may; otherwise
# says in one sentence what to install. Usage: .ci/system.sh venv | demo | test
set -euo pipefail

tier=$1
python=${PYTHON:-python3}

has_program() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }
has_chromium() { has_program chromium || has_program chromium-browser || has_program google-chrome; }
has_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }
has_headers() { "$python" -c 'import os.path, sysconfig; open(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null; }

missing=()
has_venv || missing+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")
if [ "$tier" != venv ]; then
    has_program sshd || missing+=(openssh-server)
    has_program bwrap || missing+=(bubblewrap)
fi
if [ "$tier" = test ]; then
    has_program ip || missing+=(iproute2)
    has_program sudo || missing+=(sudo)
    [ -x /lib/systemd/systemd ] || missing+=(systemd) # what boots in the machines behind the emulated cloud
    has_program gcc || missing+=(gcc libc6-dev) # `make packed` builds what is published as sources alone
    has_headers || missing+=("$("$python" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')")
    has_chromium || missing+=(chromium)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Please install ${missing[*]} (on Debian and Ubuntu: sudo apt-get install ${missing[*]}), then repeat." >&2
    exit 1
fi
echo "Installing system packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    echo "apt could not install ${missing[*]}; the lines above say why." >&2
    exit 1
fi
# The local box starts an sshd of its own on loopback. Nobody asked for one that listens to the world.
if [[ " ${missing[*]} " == *" openssh-server "* ]] && [ -d /run/systemd/system ]; then
    systemctl disable --now ssh.service ssh.socket >/dev/null 2>&1 || true
fi
