#!/usr/bin/env bash
# The servers and the browser that the tests start for themselves.
#
#   tests/services.sh               install what is missing, or say which tests cannot run and why
#   tests/services.sh has mariadb   exit 0 if this one is here
#
# With CI set, a service that cannot be had is an error.
set -euo pipefail
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

declare -A programs=([redis]=redis-server [mariadb]=mariadbd [chromium]=chromium)
declare -A packages=([redis]=redis-server [mariadb]=mariadb-server [chromium]=chromium)
declare -A tests=(
    [redis]="those with several processes on one Redis"
    [mariadb]="all tests on MariaDB"
    [chromium]="tests/browser"
)

has() { command -v "${programs[$1]}" >/dev/null; }

missing() {
    for service in redis mariadb chromium; do
        has "$service" || echo "$service"
    done
}

reason=""
install() {
    local wanted=()
    for service in "$@"; do wanted+=("${packages[$service]}"); done
    if ! command -v apt-get >/dev/null; then
        reason="there is no apt-get here"
    elif [ "$(id -u)" -ne 0 ]; then
        reason="apt-get needs root; run: sudo apt-get install ${wanted[*]}"
    else
        echo "installing ${wanted[*]}"
        # No server of the system's own is started: the tests start theirs, on free ports.
        local log policy=/usr/sbin/policy-rc.d made=""
        log="$(mktemp)"
        if [ ! -e "$policy" ]; then
            printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made="$policy"
        fi
        export DEBIAN_FRONTEND=noninteractive
        (apt-get update && apt-get install --yes --no-install-recommends "${wanted[@]}") \
            >"$log" 2>&1 </dev/null || { reason="apt-get failed"; tail -n 20 "$log"; }
        [ -z "$made" ] || rm -f "$made"
        rm -f "$log"
    fi
}

if [ "${1:-}" = has ]; then
    if has "$2"; then exit 0; fi
    [ -z "${CI:-}" ] || { echo "$2 is missing, which CI must have" >&2; exit 0; }
    exit 1
fi

mapfile -t wanted < <(missing)
[ "${#wanted[@]}" -eq 0 ] || install "${wanted[@]}"
mapfile -t wanted < <(missing)
for service in "${wanted[@]}"; do
    echo "CANNOT RUN HERE: ${tests[$service]} (no ${packages[$service]}: $reason)"
done
[ -z "${CI:-}" ] || [ "${#wanted[@]}" -eq 0 ]
