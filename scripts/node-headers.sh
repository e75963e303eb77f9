#!/bin/sh
# Prints the --nodedir option for node-gyp: the headers on this machine that belong to the running
# node. Prints nothing when there are none; then node-gyp fetches them.
major=$(node -p 'process.versions.node.split(".")[0]')
own=$(node -p 'require("path").resolve(process.execPath, "../..")')
for prefix in "$own" /usr; do
	header=$prefix/include/node/node_version.h
	if [ -f "$prefix/include/node/common.gypi" ] &&
		grep -q "define NODE_MAJOR_VERSION $major\$" "$header" 2>/dev/null; then
		echo "--nodedir=$prefix"
		exit 0
	fi
done
echo "No headers of node $major on this machine: node-gyp will fetch them." >&2
