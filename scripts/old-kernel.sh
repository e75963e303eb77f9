#!/bin/bash
# Puts Linux 6.1 and a shell for it into .kernel/ of the checkout, for tests with an older kernel:
# Debian's kernel for clouds and busybox-static.
#
# Both packages are downloaded (28 MB) and unpacked, and not installed. Does nothing when they are
# there, and for machines other than x86-64. A release of Debian that has no such kernel is no
# failure: the tests say that they skip.
set -euo pipefail
cd "$(dirname "$0")/.."
directory=$PWD/.kernel

if [ -e "$directory/vmlinuz" ] || [ "$(uname -m)" != x86_64 ]; then exit 0; fi
if ! command -v apt-get >/dev/null; then exit 0; fi

echo 'setup: fetching Linux 6.1 for tests'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
newest() {
	apt-cache pkgnames linux-image-6.1.0- | grep -E '^linux-image-6\.1\.0-[0-9]+-cloud-amd64$' |
		sort -V | tail -n 1
}
# The lists of packages may be absent or old.
fetch() {
	local image
	image=$(newest)
	[ -n "$image" ] && (cd "$work" && apt-get download -q "$image" busybox-static) \
		>"$work/log" 2>&1 </dev/null
}
fetch || { apt-get update -q >/dev/null 2>&1 && fetch; } || {
	echo 'setup: this release has no package of Linux 6.1: tests with an older kernel are skipped.' >&2
	exit 0
}
for package in "$work"/*.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work"; done
scripts/as-owner.sh mkdir -p "$directory/modules"
# What a virtual machine needs for disk and network, and the shim.
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover \
	net_failover virtio_net virtio_blk sch_ingress cls_bpf; do
	scripts/as-owner.sh cp "$(find "$work/lib/modules" -name "$module.ko")" "$directory/modules/"
done
scripts/as-owner.sh cp "$work/bin/busybox" "$directory/busybox"
# Last: a directory with it is complete.
scripts/as-owner.sh cp "$work"/boot/vmlinuz-* "$directory/vmlinuz.new"
scripts/as-owner.sh mv "$directory/vmlinuz.new" "$directory/vmlinuz"
