#!/bin/sh
# Prints the directory of a Node.js that is new enough, for PATH. sudo replaces PATH, so that a node
# installed in the home of the person who called sudo is no longer found: look there too.
# Prints nothing and succeeds when there is none; setup.sh then says what to do.
home=
if [ -n "${SUDO_USER:-}" ]; then
	home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
fi
good() {
	[ -x "$1/node" ] && "$1/node" -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' 2>/dev/null
}
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
	for directory in $(ls -d "$base"/.nvm/versions/node/*/bin "$base"/.local/share/fnm/node-versions/*/installation/bin \
		"$base"/.local/share/mise/installs/node/*/bin "$base"/.asdf/installs/nodejs/*/bin "$base"/.volta/bin \
		"$base"/.local/bin 2>/dev/null | sort -rV); do
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
exit 0
