#!/usr/bin/env bash
# scripts/deb.sh OUT: makes a Debian package of what `make install` installs, in OUT; prints its path.
#
# One package for coordinator, fleet, client and the C library. Its dependencies are what the programs are linked
# against (dpkg-shlibdeps), and what they execute. Services are not enabled: there is no cluster yet.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p "$1"
out=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
umask 022
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Makefile)}
commit=$(git describe --always 2>/dev/null || echo source)
version=0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d.%H%M).$commit

make -s --no-print-directory install DESTDIR="$root" PREFIX=/usr >/dev/null
strip --strip-unneeded "$root"/usr/bin/*
strip --strip-debug "$root/usr/lib/libunlearn.a"
gzip -9n "$root"/usr/share/man/man*/*
doc=$root/usr/share/doc/unlearnd
rm "$doc/LICENSE" # Debian has it already.
install -m 0644 deploy/debian/copyright "$doc"
printf 'unlearnd (%s) unstable; urgency=medium\n\n  * Built from the sources at %s.\n\n -- %s  %s\n' "$version" "$commit" \
  'The unlearnd authors <unlearnd@packages.debian.org>' "$(date -uR -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"
install -D -m 0644 deploy/debian/unlearn-fleet.default "$root/etc/default/unlearn-fleet"

# dpkg-shlibdeps looks for a source package around it.
mkdir -p "$work/debian" "$root/DEBIAN"
printf 'Source: unlearnd\n\nPackage: unlearnd\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/*)
depends=${depends#shlibs:Depends=}
cat >"$root/DEBIAN/control" <<CONTROL
Package: unlearnd
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: The unlearnd authors <unlearnd@packages.debian.org>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: $depends, openmpi-bin, systemd-standalone-sysusers | systemd | systemd-sysusers
Recommends: openssh-client
Suggests: jq, slurm-client, pkg-config, libprotobuf-c-dev, libsodium-dev, libzmq3-dev
Section: science
Priority: optional
Description: exact machine unlearning as a cluster service
 unlearnd trains ensembles that can forget a person exactly: after a deletion
 every parameter that is stored or served is, bit for bit, what training would
 have produced had the person's records never been there.
 .
 This package has the coordinator, the launcher of its MPI workers, the
 client, and a library for clients in C. README.md and docs/operations.md in
 its documentation say how to begin.
CONTROL
echo /etc/default/unlearn-fleet >"$root/DEBIAN/conffiles"
install -m 0755 deploy/debian/{postinst,prerm,postrm} "$root/DEBIAN"
(cd "$root" && find . -type f -not -path './DEBIAN/*' -printf '%P\n' | sort | xargs md5sum) >"$root/DEBIAN/md5sums"
chmod 0644 "$root"/DEBIAN/{control,conffiles,md5sums}
package=$out/unlearnd_${version}_$(dpkg --print-architecture).deb
dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
echo "$package"
