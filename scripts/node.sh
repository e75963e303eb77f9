#!/bin/bash
# Puts Node.js and npm into .node/. Baton is built, tested and installed with them:
#
#     .node/bin/node, .node/bin/npm, .node/include/node
#
# Both are npm packages. Their exact versions and SHA-512 sums are in scripts/node.sums. The
# registry is the one that this machine's npm is configured for. .node/etc/npmrc points to the
# global configuration of that npm, so that all later downloads use the same registry. The machine's
# own Node.js stays as it is.
#
# A machine without npm gets Debian's npm for this one download. Its packages are unpacked into a
# temporary directory, only the processes of this script see them under /usr, and they are deleted
# afterwards. Nothing is installed. This needs root.
#
# make NODE_DIR=... uses another Node.js, and does not call this script.
set -euo pipefail
cd "$(dirname "$0")/.."
project=$PWD
sums=$project/scripts/node.sums
owner=$project/scripts/as-owner.sh

other_node='give make NODE_DIR=the bin directory of a Node.js 22 or newer with npm.'
fail() {
	printf 'setup: %s\n' "$@" >&2
	exit 1
}

case $(uname -m) in
	x86_64) architecture=x64 ;;
	aarch64) architecture=arm64 ;;
	*) fail "there is no Node.js package for $(uname -m)." \
		"Install Node.js 22 or newer, and run make with NODE_DIR=its bin directory." ;;
esac
archive_of() { # package: prints the name of its pinned archive
	awk -v begin="$1-" '
		index($2, begin) == 1 && substr($2, length(begin) + 1) ~ /^[0-9]/ { print $2 }' "$sums"
}
node_archive=$(archive_of "node-linux-$architecture")
npm_archive=$(archive_of npm)
version_of() { # NAME-1.2.3.tgz: prints 1.2.3
	local name=${1%.tgz}
	echo "${name##*-}"
}
node_version=$(version_of "$node_archive")
npm_version=$(version_of "$npm_archive")

# A temporary directory. The owner of the checkout can read it, because fetching and unpacking run
# in the owner's name.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
log=$work/log

# The command of an npm that works, and the command that root must start it with.
npm=()
within=()

# Unpacks Debian's npm and its dependencies into $work/debian. Downloads only packages that the
# machine lacks.
borrow_npm() {
	local needed="npm is needed once, to fetch Node.js $node_version, and this machine has none"
	command -v apt-get >/dev/null || fail "$needed; it has no apt-get to get npm with either." \
		"Install npm by the means of this system, or $other_node"
	[ "$(id -u)" = 0 ] || fail "$needed; run 'sudo make setup'."
	echo "setup: this machine has no npm: Debian's npm is unpacked into a temporary directory"
	echo "setup: for one download, and not installed"
	mkdir -p "$work/debs/partial" "$work/debian"
	if ! { apt-get update -q &&
		apt-get install -q -y --no-install-recommends --download-only \
			-o DPkg::Lock::Timeout=300 -o "Dir::Cache::archives=$work/debs" npm; } \
		>"$log" 2>&1 </dev/null; then
		tail -n 20 "$log" >&2
		fail "apt-get could not download Debian's npm." "Install npm yourself, or $other_node"
	fi
	local package
	for package in "$work"/debs/*.deb; do
		dpkg-deb --extract "$package" "$work/debian"
	done
	rm -rf "$work/debs"
	# Debian's node and npm find parts of themselves in /usr, by paths that cannot be changed.
	within=(unshare --mount --propagation private sh -ec
		'mount -t overlay overlay -o "ro,lowerdir=$1/usr:/usr" /usr; shift; exec "$@"'
		- "$work/debian")
	"${within[@]}" true >"$log" 2>&1 || {
		cat "$log" >&2
		fail "Debian's npm cannot run without an installation: mounting an overlay failed." \
			"Install npm yourself, or $other_node"
	}
	npm=(npm)
}

fetch() { # package version archive: fetches it into $work/fetched and checks it
	if ! (cd "$work/fetched" && "${within[@]}" "$owner" "${npm[@]}" pack --silent "$1@$2") \
		>"$log" 2>&1; then
		tail -n 20 "$log" >&2
		fail "npm could not fetch $1@$2 from the registry that it is configured for."
	fi
	if ! (cd "$work/fetched" && grep -F "  $3" "$sums" | sha512sum --check --status); then
		fail "the package $1@$2 from npm does not match scripts/node.sums, so it is not used."
	fi
}

npm_directory=$(scripts/find-node.sh --npm)
if [ -n "$npm_directory" ]; then
	npm=(env "PATH=$npm_directory:$PATH" npm)
else
	borrow_npm
fi
echo "setup: fetching Node.js $node_version and npm $npm_version into .node/ of this checkout"
echo "setup: the machine's own Node.js and npm stay as they are"
"$owner" mkdir -p .node
mkdir "$work/fetched"
chown "$(stat -c %u:%g .node)" "$work/fetched"
fetch "node-linux-$architecture" "$node_version" "$node_archive"
fetch npm "$npm_version" "$npm_archive"

# The global configuration has registry, proxy and certificates. Any npm reads the user's ~/.npmrc.
global=$("${within[@]}" "$owner" "${npm[@]}" config get globalconfig)
[ "$global" != "$project/.node/etc/npmrc" ] || global=/etc/npmrc # npm was the one in .node

# Unpacks into a fresh directory and moves it into place at the end, so that an interrupted run
# leaves nothing half unpacked.
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
runs=$("$owner" .node/bin/node --version 2>&1) ||
	fail "the fetched Node.js does not run on this machine: $runs" \
		"Install Node.js 22 or newer, and run make with NODE_DIR=its bin directory."
"$owner" touch .node/installed
