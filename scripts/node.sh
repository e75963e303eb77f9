#!/bin/bash
# Puts the Node.js that Baton is built against, tested with and installed with into .node/, with npm beside it:
#
#     .node/bin/node, .node/bin/npm, .node/include/node
#
# Both are npm packages. Their exact versions and SHA-512 sums are in scripts/node.sums; the registry is the one
# that this machine's npm is configured for, and .node/etc/npmrc points to its global configuration, so that all later
# downloads use the same. The machine's own Node.js, if it has one, is left as it is.
#
# A machine without npm gets Debian's npm for this one download: its packages are unpacked into a temporary
# directory, only this script's own processes see them under /usr, and they are deleted afterwards. Nothing is
# installed (this needs root).
#
# make NODE_DIR=... names the directory of another Node.js; then this script is not called.
set -euo pipefail
cd "$(dirname "$0")/.."
project=$PWD
sums=$project/scripts/node.sums
owner=$project/scripts/as-owner.sh

fail() {
	printf 'setup: %s\n' "$@" >&2
	exit 1
}

case $(uname -m) in
	x86_64) architecture=x64 ;;
	aarch64) architecture=arm64 ;;
	*) fail "there is no Node.js package for $(uname -m): install Node.js 22 or newer, and run make with NODE_DIR=its bin directory." ;;
esac
archive_of() { # the pinned archive whose name begins so
	awk -v begin="$1-" 'index($2, begin) == 1 && substr($2, length(begin) + 1) ~ /^[0-9]/ { print $2 }' "$sums"
}
node_archive=$(archive_of "node-linux-$architecture")
npm_archive=$(archive_of npm)
version_of() { # NAME-1.2.3.tgz
	local name=${1%.tgz}
	echo "${name##*-}"
}
node_version=$(version_of "$node_archive")
npm_version=$(version_of "$npm_archive")

# What the work is done in: readable by the owner of the checkout, in whose name things are fetched and unpacked.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
log=$work/log

# The command of an npm that works, and what it has to be started with as root.
npm=()
within=()

# Debian's npm and what it depends on, unpacked into $work/debian. Only what the machine lacks is downloaded.
borrow_npm() {
	command -v apt-get >/dev/null || fail "npm is needed once, to fetch Node.js $node_version, and there is none here, nor apt-get to get it with." \
		"Install npm by the means of this system, or give make NODE_DIR=the bin directory of a Node.js 22 or newer with npm."
	[ "$(id -u)" = 0 ] || fail "npm is needed once, to fetch Node.js $node_version, and there is none here; run 'sudo make setup'."
	echo "setup: no npm here: Debian's is unpacked into a temporary directory for one download, and not installed"
	mkdir -p "$work/debs/partial" "$work/debian"
	if ! { apt-get update -q && apt-get install -q -y --no-install-recommends --download-only \
		-o DPkg::Lock::Timeout=300 -o "Dir::Cache::archives=$work/debs" npm; } >"$log" 2>&1 </dev/null; then
		tail -n 20 "$log" >&2
		fail "apt-get could not download Debian's npm." \
			"Install npm yourself, or give make NODE_DIR=the bin directory of a Node.js 22 or newer with npm."
	fi
	local package
	for package in "$work"/debs/*.deb; do
		dpkg-deb --extract "$package" "$work/debian"
	done
	rm -rf "$work/debs"
	# Debian's node and npm look for parts of themselves in /usr, by paths that cannot be changed.
	within=(unshare --mount --propagation private sh -ec
		'mount -t overlay overlay -o "ro,lowerdir=$1/usr:/usr" /usr; shift; exec "$@"' - "$work/debian")
	"${within[@]}" true >"$log" 2>&1 || {
		cat "$log" >&2
		fail "Debian's npm cannot be used without being installed: this machine lets nobody mount an overlay." \
			"Install npm yourself, or give make NODE_DIR=the bin directory of a Node.js 22 or newer with npm."
	}
	npm=(npm)
}

fetch() { # package version archive: into $work/fetched
	if ! (cd "$work/fetched" && "${within[@]}" "$owner" "${npm[@]}" pack --silent "$1@$2") >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		fail "npm could not fetch $1@$2 from the registry that it is configured for."
	fi
	if ! (cd "$work/fetched" && grep -F "  $3" "$sums" | sha512sum --check --status); then
		fail "what npm fetched as $1@$2 is not what scripts/node.sums names: it is not used."
	fi
}

npm_directory=$(scripts/find-node.sh --npm)
if [ -n "$npm_directory" ]; then
	npm=(env "PATH=$npm_directory:$PATH" npm)
else
	borrow_npm
fi
echo "setup: fetching Node.js $node_version and npm $npm_version into .node/ of this checkout; the machine's own are left as they are"
"$owner" mkdir -p .node
mkdir "$work/fetched"
chown "$(stat -c %u:%g .node)" "$work/fetched"
fetch "node-linux-$architecture" "$node_version" "$node_archive"
fetch npm "$npm_version" "$npm_archive"

# Its registry, proxy or certificates; the user's own ~/.npmrc is read by any npm.
global=$("${within[@]}" "$owner" "${npm[@]}" config get globalconfig)
[ "$global" != "$project/.node/etc/npmrc" ] || global=/etc/npmrc # it was the npm of .node itself

# Into a fresh directory, moved into place at the end: an interrupted run leaves nothing half unpacked.
"$owner" bash -euc '
	rm -rf .node/new .node/bin .node/include .node/lib .node/etc .node/LICENSE .node/installed
	mkdir -p .node/new/lib/node_modules/npm
	tar -xzf "$1" -C .node/new --strip-components=1
	tar -xzf "$2" -C .node/new/lib/node_modules/npm --strip-components=1
	ln -s ../lib/node_modules/npm/bin/npm-cli.js .node/new/bin/npm
	chmod 755 .node/new/lib/node_modules/npm/bin/npm-cli.js
	mkdir .node/etc
	ln -s "$3" .node/etc/npmrc
	mv .node/new/include .node/new/lib .node/new/LICENSE .node/
	mv .node/new/bin .node/
	rm -rf .node/new
' - "$work/fetched/$node_archive" "$work/fetched/$npm_archive" "$global"
runs=$("$owner" .node/bin/node --version 2>&1) || fail "the Node.js that was fetched does not run here: $runs" \
	"Install Node.js 22 or newer, and run make with NODE_DIR=its bin directory."
"$owner" touch .node/installed
