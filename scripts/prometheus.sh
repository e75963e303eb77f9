#!/bin/bash
# Puts Debian's prometheus and promtool into .prometheus/ of the checkout, for tests.
#
# The package is downloaded (19 MB) and unpacked, and not installed: that would add a user, a
# service, and two dozen packages with the fonts and scripts of its web pages. Does nothing when the
# machine has both programs.
set -euo pipefail
cd "$(dirname "$0")/.."
directory=$PWD/.prometheus

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then exit 0; fi
if [ -x "$directory/prometheus" ] && [ -x "$directory/promtool" ]; then exit 0; fi
if ! command -v apt-get >/dev/null; then
	echo "setup: missing: prometheus and promtool. This machine has no apt-get: install them." >&2
	exit 1
fi

echo 'setup: fetching prometheus and promtool for tests'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch() {
	(cd "$work" && apt-get download -q prometheus) >"$work/log" 2>&1 </dev/null
}
# The lists of packages may be absent or old.
fetch || { apt-get update -q >/dev/null 2>&1 && fetch; } || {
	tail -n 20 "$work/log" >&2
	echo 'setup: apt-get could not download prometheus.' >&2
	exit 1
}
# In two steps: a directory that is there is complete.
dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb |
	tar -x -C "$work" --strip-components=3 ./usr/bin/prometheus ./usr/bin/promtool
scripts/as-owner.sh mkdir -p "$directory"
for program in prometheus promtool; do
	scripts/as-owner.sh cp "$work/$program" "$directory/$program.new"
	scripts/as-owner.sh mv "$directory/$program.new" "$directory/$program"
done
