#!/bin/sh
# Bring in what the tests need and no package registry carries: the distribution's mosquitto, PostgreSQL, RabbitMQ,
# Chromium, espeak-ng, systemd's own checker of units, and what loses packets. Changes nothing where they are there.
set -eu

missing=
need() { # need PACKAGE COMMAND...: one of the commands is enough
    package=$1
    shift
    for command in "$@"; do
        if command -v "$command" >/dev/null 2>&1 || [ -x "/usr/sbin/$command" ]; then return; fi
    done
    missing="$missing $package"
}

need mosquitto mosquitto
need nftables nft
need iproute2 tc
need chromium chromium chromium-browser
need espeak-ng espeak-ng
need systemd systemd-analyze
need postgresql pg_ctlcluster
need rabbitmq-server rabbitmqctl
if [ -z "$missing" ]; then exit 0; fi

if [ "$(id -u)" -eq 0 ]; then
    root=
elif command -v sudo >/dev/null 2>&1; then
    root=sudo
else
    root=none
fi
if [ "$root" = none ] || ! command -v apt-get >/dev/null 2>&1; then
    printf 'The tests need these Debian packages, and neither root nor sudo is here to install them:%s\n' "$missing" >&2
    printf 'Ask whoever looks after this machine for: apt-get install --no-install-recommends%s\n' "$missing" >&2
    exit 1
fi

# A broker that the package starts by itself would stay behind, listening. policy-rc.d is Debian's way to say no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$root rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
    $root chmod 0755 "$policy"
fi
printf 'Installing for the tests:%s\n' "$missing" >&2
$root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
# shellcheck disable=SC2086  # the list is words on purpose
$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
if command -v systemctl >/dev/null 2>&1; then
    for service in mosquitto postgresql rabbitmq-server; do
        case $missing in *$service*) $root systemctl --quiet disable "$service.service" || true ;; esac
    done
fi
