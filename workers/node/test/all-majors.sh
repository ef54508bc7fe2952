#!/bin/sh
# Runs the tests on every supported Node major: all-majors.sh DIRECTORY keeps the downloaded Nodes there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
nodes=${1:?usage: all-majors.sh DIRECTORY}
for major in 18 20 22 24 26; do
  binary="$nodes/$major/node_modules/node/bin/node"
  [ -x "$binary" ] || npm install --no-save --no-audit --no-fund --prefix "$nodes/$major" "node@$major"
  echo "== $("$binary" --version)"
  "$binary" --test "$here"/*.test.js
done
