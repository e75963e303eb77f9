#!/bin/sh
# Runs a command as the person who called sudo, if the checkout is theirs: what the build makes
# then belongs to them, and their own npm settings hold. Otherwise runs it as it is.
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_UID:-}" ] && [ "$SUDO_UID" != 0 ] && [ "$(stat -c %u .)" = "$SUDO_UID" ]; then
	for made in node_modules dist build .node; do
		# Left by a build that ran as root.
		if [ -n "$(find "$made" -maxdepth 2 -user 0 -print -quit 2>/dev/null)" ]; then
			chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$made"
		fi
	done
	HOME=$(getent passwd "$SUDO_UID" | cut -d: -f6)
	export HOME
	exec setpriv --reuid "$SUDO_UID" --regid "${SUDO_GID:-$SUDO_UID}" --init-groups -- "$@"
fi
exec "$@"
