#!/bin/bash
# Installs what a step needs and the machine lacks, with apt-get, and nothing else.
#
#     scripts/setup.sh build|demo|test|bench
#
# When everything is there, nothing is printed, and nothing but this machine is touched. Without
# root it only says what is missing. No service is started or enabled: the web servers and proxies are
# needed as programs only.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

step=${1:-build}
missing=()

need_command() { # command package
	command -v "$1" >/dev/null || missing+=("$2")
}
need_file() { # file package
	[ -e "$1" ] || missing+=("$2")
}

need_command make make
need_command g++ g++
need_command clang clang
need_command python3 python3 # node-gyp is written in it
need_command setpriv util-linux
need_file /usr/include/bpf/libbpf.h libbpf-dev
need_file /usr/include/gelf.h libelf-dev
need_file /usr/include/linux/bpf.h linux-libc-dev

if [ "$step" != build ]; then
	need_command nginx nginx
	need_command curl curl
	need_command ip iproute2
	need_command tc iproute2
	need_command ethtool ethtool
	need_command nsenter util-linux
fi
if [ "$step" = test ] || [ "$step" = bench ]; then
	need_command wrk wrk
	need_command sysctl procps
	need_command ps procps
	need_file /usr/bin/python3 python3 # for the packet sockets of the tests
fi
if [ "$step" = test ]; then
	need_file /usr/sbin/apache2 apache2-bin
fi
if [ "$step" = bench ]; then
	need_command haproxy haproxy # what Baton is compared with
	need_command bpftool bpftool
	need_command taskset util-linux
	need_command prlimit util-linux
fi

node_major() {
	node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0
}
candidate_major() { # of the distribution's package
	apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*\).*/\1/p'
}
no_node() {
	echo "setup: Node.js 20 or newer is needed; this machine has $1, and its distribution offers ${2:-none}." >&2
	echo "setup: install Node.js 20 or newer (with npm) so that 'node' is in PATH, then run this again." >&2
	exit 1
}
if [ "$(node_major)" -lt 20 ]; then
	found=$(node --version 2>/dev/null || echo none)
	offered=$(candidate_major nodejs)
	if [ -z "$offered" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		apt-get update -q >/dev/null 2>&1 </dev/null || true # a new machine knows of no packages yet
		offered=$(candidate_major nodejs)
	fi
	[ "${offered:-0}" -ge 20 ] || no_node "$found" "${offered:+version $offered}"
	missing+=(nodejs npm libnode-dev)
elif ! command -v npm >/dev/null && [ ! -d node_modules ]; then
	missing+=(npm)
fi
# A node that the distribution packaged keeps its headers in a package of their own.
if [ "$(node_major)" -ge 20 ] && [ ! -e "$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")/include/node/node.h" ] &&
	[ "$(candidate_major libnode-dev)" = "$(node_major)" ]; then
	missing+=(libnode-dev)
fi

[ ${#missing[@]} -gt 0 ] || exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

if ! command -v apt-get >/dev/null; then
	echo "setup: missing (Debian's names): ${missing[*]}; there is no apt-get here to install them with." >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "setup: missing: ${missing[*]}; run 'sudo make setup' to install them." >&2
	exit 1
fi

echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
restore=:
if [ ! -e "$policy" ]; then
	# The documented way to keep packages from starting their services while they are installed.
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	restore="rm -f $policy"
fi
trap '$restore' EXIT
log=$(mktemp)
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
	tail -n 20 "$log" >&2
	echo "setup: apt-get could not install them (everything it said: $log)." >&2
	exit 1
fi
rm -f "$log"
for service in nginx haproxy; do
	if printf '%s\n' "${missing[@]}" | grep -qx "$service"; then
		systemctl --quiet disable "$service.service" 2>/dev/null ||
			deb-systemd-helper disable "$service.service" >/dev/null 2>&1 || true
		echo "setup: $service is installed as a program; its service is neither started nor enabled."
	fi
done
