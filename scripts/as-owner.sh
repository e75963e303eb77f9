#!/bin/sh
# Runs a command as the person who called sudo, if that person owns the checkout. Then the files
# that the build makes belong to the owner, and the owner's npm settings apply. Otherwise runs the
# command as it is.
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_UID:-}" ] && [ "$SUDO_UID" != 0 ] &&
	[ "$(stat -c %u .)" = "$SUDO_UID" ]; then
	for made in node_modules dist build .node .prometheus .kernel; do
		# A build that ran as root may have left files of root.
		if [ -n "$(find "$made" -maxdepth 2 -user 0 -print -quit 2>/dev/null)" ]; then
			chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$made"
		fi
	done
	HOME=$(getent passwd "$SUDO_UID" | cut -d: -f6)
	export HOME
	exec setpriv --reuid "$SUDO_UID" --regid "${SUDO_GID:-$SUDO_UID}" --init-groups -- "$@"
fi
exec "$@"
