#!/bin/bash
# Installs with apt-get what a step needs and the machine lacks, and nothing else.
#
#     scripts/setup.sh build|demo|test|bench
#
# When nothing is missing, it prints nothing and uses no network. Without root it only says what is
# missing. It starts and enables no service: web servers and proxies are needed only as programs.
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
need_command python3 python3 # node-gyp needs it
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
	need_command wget wget
	need_command h2load nghttp2-client
	need_command tcpdump tcpdump # reads what `baton capture` writes
	need_command logrotate logrotate # rotates the access log
	need_command dnsmasq dnsmasq-base # a DNS server, behind a virtual server for UDP
	need_command dig bind9-dnsutils
	need_command vsftpd vsftpd # servers of other protocols, and their clients
	need_command sshd openssh-server
	need_command ssh openssh-client
	need_command ssh-keygen openssh-client
	need_command exim4 exim4-daemon-light
	need_command telnet inetutils-telnet
	need_command inetutils-inetd inetutils-inetd # starts telnetd
	need_file /usr/sbin/telnetd inetutils-telnetd
	need_command redis-server redis-server
	need_command goaccess goaccess # reads the access log in Apache's format
	need_command chattr e2fsprogs
	need_command mke2fs e2fsprogs
	# Emulates a machine with an older kernel; 60 MB.
	if [ "$(uname -m)" = x86_64 ]; then need_command qemu-system-x86_64 qemu-system-x86; fi
	need_command openssl openssl # makes certificates, and is a client of TLS
	need_command chromium-headless-shell chromium-headless-shell # loads pages; 100 MB
fi
if [ "$step" = bench ]; then
	need_command haproxy haproxy # what Baton is compared with
	need_command bpftool bpftool
	need_command taskset util-linux
	need_command prlimit util-linux
fi

# scripts/node.sh fetches Node.js, except for other architectures and with NODE_DIR.
node_directory=${NODE_DIR:-$(scripts/find-node.sh)}
if [ "$node_directory" != "$PWD/.node/bin" ]; then
	found=$("${node_directory:-/nowhere}/node" --version 2>/dev/null || echo none)
	major=${found#v}
	if ! [ "${major%%.*}" -ge 22 ] 2>/dev/null; then
		where=${NODE_DIR:+ in NODE_DIR=$NODE_DIR}
		echo "setup: Node.js 22 or newer is needed$where; found: $found." >&2
		echo "setup: install it with npm, and run make with NODE_DIR=its bin directory." >&2
		exit 1
	fi
	if ! PATH=$node_directory:$PATH command -v npm >/dev/null; then
		echo "setup: Node.js $found in $node_directory has no npm; install npm." >&2
		echo "setup: npm is needed to fetch the node modules." >&2
		exit 1
	fi
fi

if [ "$step" = test ]; then
	scripts/prometheus.sh
	scripts/old-kernel.sh
fi

[ ${#missing[@]} -gt 0 ] || exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

if ! command -v apt-get >/dev/null; then
	echo "setup: missing (Debian's names): ${missing[*]}." >&2
	echo "setup: this machine has no apt-get, so install them yourself." >&2
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
	# This is Debian's way to keep packages from starting their services at installation.
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	restore="rm -f $policy"
fi
trap '$restore' EXIT
log=$(mktemp)
# A new machine may be installing updates at this moment, so wait for the lock.
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends \
	-o DPkg::Lock::Timeout=300 "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
	tail -n 20 "$log" >&2
	echo "setup: apt-get could not install them (its whole output: $log)." >&2
	exit 1
fi
rm -f "$log"
for service in nginx haproxy vsftpd ssh exim4 inetutils-inetd redis-server; do
	package=$service
	case $service in
	ssh) package=openssh-server ;;
	exim4) package=exim4-daemon-light ;;
	esac
	if printf '%s\n' "${missing[@]}" | grep -qx "$package"; then
		systemctl --quiet disable "$service.service" 2>/dev/null ||
			deb-systemd-helper disable "$service.service" >/dev/null 2>&1 || true
		echo "setup: installed $service as a program; its service is neither started nor enabled."
	fi
done
