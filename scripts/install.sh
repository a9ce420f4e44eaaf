#!/usr/bin/env bash
# Installs those of the named Debian packages that are missing; asks apt-get only if any is. Uses sudo
# where the user is not root. Called by the Makefile, which has the list.
set -euo pipefail

missing=()
for package in "$@"; do
    if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$'; then
        missing+=("$package")
    fi
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "These packages are missing, and neither root nor sudo is at hand: ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "installing: ${missing[*]}"
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"; }
# A list of packages that is old or absent is fetched anew, once.
apt install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    { apt update >/dev/null && apt install -y --no-install-recommends "${missing[@]}" >/dev/null; }
