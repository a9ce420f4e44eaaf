#!/usr/bin/env bash
# docker/base-image.sh: makes sure that the image debian:bookworm-slim is there.
#
# Pulls it, or where no registry answers makes one of the same name from Debian's packages, with
# debootstrap (as root) and this machine's own list of package sources. Nothing to do where it is there.
set -euo pipefail

IMAGE=debian:bookworm-slim

docker image inspect "$IMAGE" >/dev/null 2>&1 && exit 0
if timeout 60 docker pull -q "$IMAGE" >/dev/null 2>&1; then
  echo "pulled $IMAGE"
  exit 0
fi
if (($(id -u) != 0)); then
  echo "$IMAGE cannot be pulled, and only root can make it: run $0 as root" >&2
  exit 1
fi
command -v debootstrap >/dev/null || "$(dirname "$0")/../scripts/install.sh" debootstrap
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
# The first source of bookworm itself, in either format that apt knows.
mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(IDENTIFIER)' 2>/dev/null |
  awk '$2 == "bookworm" && $3 == "Packages" { print $1; exit }')
if [[ -z $mirror ]]; then
  echo "$IMAGE cannot be pulled, and apt has no source of bookworm to make it from" >&2
  exit 1
fi
echo "making $IMAGE with debootstrap"
debootstrap --variant=minbase bookworm "$tree/root" "$mirror" >"$tree/log" 2>&1 || {
  tail -20 "$tree/log" >&2
  exit 1
}
# Containers install from where this machine does.
rm -f "$tree/root/etc/apt/sources.list"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
  if [[ -s $file ]]; then
    install -D -m 0644 "$file" "$tree/root$file"
  fi
done
for file in /etc/apt/apt.conf.d/*; do
  if grep -qE '^ *Acquire::' "$file"; then
    install -D -m 0644 "$file" "$tree/root$file"
  fi
done
rm -rf "$tree"/root/var/cache/apt/archives/*.deb "$tree"/root/var/lib/apt/lists/* \
  "$tree"/root/usr/share/{doc,man,locale}/*
tar -C "$tree/root" -c . | docker import -c 'CMD ["/bin/bash"]' - "$IMAGE" >/dev/null
echo "made $IMAGE"
