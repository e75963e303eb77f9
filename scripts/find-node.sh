#!/bin/sh
# Prints the directory of the Node.js to use, for PATH:
#
#     scripts/find-node.sh          .node/bin of this checkout, even if it does not exist yet
#                                   (scripts/node.sh makes it). On an architecture without a
#                                   package: a Node.js of this machine that is new enough.
#     scripts/find-node.sh --npm    an npm of this machine that runs, of any version
#
# Prints nothing and succeeds when there is none. sudo replaces PATH, so the home directory of the
# person who called sudo is searched too.
if [ "${1:-}" != --npm ]; then
	case $(uname -m) in
		x86_64 | aarch64)
			cd "$(dirname "$0")/.." && echo "$PWD/.node/bin"
			exit 0
			;;
	esac
fi
home=
if [ -n "${SUDO_USER:-}" ]; then
	home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
fi
private=$(cd "$(dirname "$0")/.." && pwd)/.node/bin
good() {
	[ -x "$1/node" ] && [ "$1" != "$private" ] || return 1
	if [ "$wanted" = npm ]; then
		[ -x "$1/npm" ] && PATH="$1:$PATH" npm --version >/dev/null 2>&1
	else
		"$1/node" -e 'process.exit(parseInt(process.versions.node, 10) >= 22 ? 0 : 1)' 2>/dev/null
	fi
}
wanted=${1#--}
IFS=:
for directory in $PATH; do
	if good "$directory"; then
		echo "$directory"
		exit 0
	fi
done
unset IFS
for base in "$home" "$HOME"; do
	[ -n "$base" ] || continue
	for directory in $(ls -d "$base"/.nvm/versions/node/*/bin \
		"$base"/.local/share/fnm/node-versions/*/installation/bin \
		"$base"/.local/share/mise/installs/node/*/bin "$base"/.asdf/installs/nodejs/*/bin \
		"$base"/.volta/bin "$base"/.local/bin 2>/dev/null | sort -rV); do
		if good "$directory"; then
			echo "$directory"
			exit 0
		fi
	done
done
for directory in /usr/local/bin /opt/node*/bin /usr/local/node*/bin; do
	if good "$directory"; then
		echo "$directory"
		exit 0
	fi
done
# The last choice is the npm that an earlier version of this checkout brought.
if [ "$wanted" = npm ] && [ -x "$private/npm" ]; then
	echo "$private"
fi
exit 0
