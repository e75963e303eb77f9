#!/bin/sh
# Prints the --nodedir option for node-gyp: headers on this machine that belong to the running node.
# Prints nothing when there are none: node-gyp then fetches them.
major=$(node -p 'process.versions.node.split(".")[0]')
for prefix in "$(node -p 'require("path").dirname(require("path").dirname(process.execPath))')" /usr; do
	header=$prefix/include/node/node_version.h
	if [ -f "$prefix/include/node/common.gypi" ] && grep -q "define NODE_MAJOR_VERSION $major\$" "$header" 2>/dev/null; then
		echo "--nodedir=$prefix"
		exit 0
	fi
done
echo "No headers of node $major on this machine: node-gyp will fetch them." >&2
