#!/bin/sh
# Checks that this machine's kernel can run Baton: a node that replays handshakes. With --adopt, a
# node that adopts, as tests and benchmarks need it. If not, says what is wrong and what to install,
# with exit code 1. With --warn this is a warning and the exit code is 0, because building and
# `make test-unit` do not need such a kernel. The programs themselves make this check in
# src/host/kernel.ts.
needed=5.10
function=bpf_skc_to_tcp_sock
what='run Baton'
if [ "${1:-}" = --adopt ]; then
	shift
	needed=6.9
	function=bpf_sk_assign_tcp_reqsk
	what='run the tests and benchmarks of Baton'
fi
description=/sys/kernel/btf/vmlinux

# This file contains the names of the kernel's functions as plain text.
grep -aqs "$function" "$description" && exit 0

running=$(uname -r)
older() { # than $needed
	[ "$(printf '%s\n%s\n' "$needed" "${running%%-*}" | sort -V | head -n 1)" != "$needed" ]
}
if older; then
	reason="is too old: Linux $needed or newer is needed, for $function."
	case $(dpkg --print-architecture 2>/dev/null) in
		arm64) image=linux-image-arm64 ;;
		*) image=linux-image-amd64 ;;
	esac
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null)
	if [ "$needed" = 5.10 ]; then
		remedy="Debian 11 and newer have such a kernel ($image). Reboot after installing it."
	elif [ "$codename" = bookworm ]; then
		remedy="On Debian 12: add bookworm-backports to apt's sources,"
		remedy="$remedy 'apt-get install -t bookworm-backports $image', reboot."
		remedy="$remedy Or upgrade to Debian 13."
	else
		remedy="Debian 13 has such a kernel, and Debian 12 has it in bookworm-backports ($image)."
		remedy="$remedy Reboot after installing it."
	fi
elif [ ! -e "$description" ]; then
	reason="does not list its functions: there is no $description."
	remedy='Mount /sys. If it is mounted,'
	remedy="$remedy use a kernel with CONFIG_DEBUG_INFO_BTF, like those of Debian."
else
	reason="has no $function."
	remedy='Use a kernel with CONFIG_BPF_SYSCALL, CONFIG_INET and CONFIG_SYN_COOKIES, like those of Debian.'
fi
warn=
[ "${1:-}" != --warn ] || warn='warning: '
echo "setup: ${warn}this machine cannot $what: kernel $running $reason" >&2
echo "setup: $remedy" >&2
[ -n "$warn" ]
