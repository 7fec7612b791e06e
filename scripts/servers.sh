#!/usr/bin/env bash
# Postgres, Redis (one, and a cluster of three) and memcached for the store tests, private and on loopback.
#
# servers.sh run COMMAND...   starts them, runs the command, stops them however it ends; its exit code is the command's.
#                             Within such a run, it only runs the command.
# servers.sh start            starts them and prints what `run` gives the command: eval "$(scripts/servers.sh start)"
# servers.sh stop DIRECTORY   stops those of that directory, and removes it
#
# ONCEFLIGHT_TEST_POSTGRES         postgres://…
# ONCEFLIGHT_TEST_REDIS            redis://…
# ONCEFLIGHT_TEST_REDIS_CLUSTER    redis-cluster://HOST:PORT,HOST:PORT,HOST:PORT
# ONCEFLIGHT_TEST_MEMCACHED        memcached://HOST:PORT,HOST:PORT
# ONCEFLIGHT_TEST_SERVERS          the directory: NAME.start, .stop, .kill, .freeze and .thaw there (see server.sh) do so
#                                  to postgres, redis, redis-cluster-1 to -3, memcached-1 and -2
set -euo pipefail
scripts=$(cd "$(dirname "$0")" && pwd)
servers=(postgres redis redis-cluster-{1,2,3} memcached-{1,2})
dir='' command='' # what is to be ended

# free_port: sets `port`. Below the ports that the kernel gives to clients (from 32768): else one that calls a stopped
# server may be given that server's own port, and have it when the server comes back. A Redis of a cluster needs the
# port that is 10000 higher, too. Whether nobody is faster shows when the server starts.
declare -A taken=()
free_port() {
    while :; do
        port=$((10000 + SRANDOM % 10000))
        [[ -z ${taken[$port]:-} ]] || continue
        taken[$port]=yes
        # shellcheck disable=SC2188 # opens a connection
        if ! { <"/dev/tcp/127.0.0.1/$port" || <"/dev/tcp/127.0.0.1/$((port + 10000))"; } 2>/dev/null; then return; fi
    done
}

# prepare: sets `dir`, a directory with all that server.sh needs.
prepare() {
    local initdb program postgres server verb port user=''
    local -a as=() # Postgres and memcached don't run as root
    initdb=$(command -v initdb || printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n1)
    for program in "$initdb" redis-server redis-cli memcached pgrep; do
        command -v "$program" >/dev/null || { echo "servers: no $program: scripts/setup.sh installs it" >&2 && exit 1; }
    done
    postgres=$(dirname "$(readlink -f "$initdb")") # with others that aren't on everybody's PATH
    if ((EUID == 0)); then
        user=nobody
        ! id postgres >/dev/null 2>&1 || user=postgres
        as=(setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups)
    fi
    dir=$(mktemp -d "${TMPDIR:-/tmp}/onceflight.XXXXXX")
    cp "$scripts/server.sh" "$dir/control"
    declare -p as postgres >"$dir/settings"
    for server in "${servers[@]}"; do
        free_port
        echo "$port" >"$dir/$server.port"
        mkdir -m 700 "$dir/$server.data"
        for verb in start stop kill freeze thaw; do ln -s control "$dir/$server.$verb"; done
    done
    [[ -z $user ]] || chown "$user" "$dir" "$dir"/*.data
}

# address SERVER...: HOST:PORT,HOST:PORT,...
address() {
    local server all=
    for server; do all+=,127.0.0.1:$(<"$dir/$server.port"); done
    echo "${all#,}"
}

environment() {
    local all
    echo "export ONCEFLIGHT_TEST_POSTGRES=postgres://postgres@$(address postgres)/postgres"
    echo "export ONCEFLIGHT_TEST_REDIS=redis://$(address redis)"
    all=$(address redis-cluster-{1,2,3})
    echo "export ONCEFLIGHT_TEST_REDIS_CLUSTER=redis-cluster://$all"
    echo "export ONCEFLIGHT_TEST_MEMCACHED=memcached://$(address memcached-{1,2})"
    echo "export ONCEFLIGHT_TEST_SERVERS=${dir@Q}"
}

# kill_all: what they kept isn't wanted any more.
kill_all() {
    local server
    [[ -n $dir ]] || return 0
    for server in "${servers[@]}"; do "$dir/$server.kill" & done
    wait
    rm -rf "$dir"
    dir=
}

# start_all: fails if one of them does.
start_all() {
    local server nodes code=0
    local -A job
    for server in "${servers[@]}"; do
        "$dir/$server.start" &
        job[$server]=$!
    done
    for server in redis-cluster-{1,2,3}; do wait "${job[$server]}" || code=1; done
    if ((code == 0)); then # while Postgres is still at it
        IFS=, read -ra nodes <<<"$(address redis-cluster-{1,2,3})"
        redis-cli --cluster create "${nodes[@]}" --cluster-yes >"$dir/cluster.log" || code=1
        for server in redis-cluster-{1,2,3}; do "$dir/$server.start" || code=1; done # until each knows the others
    fi
    for server in postgres redis memcached-{1,2}; do wait "${job[$server]}" || code=1; done
    return $code
}

start() {
    local attempt
    for attempt in 1 2 3; do
        prepare
        ! start_all || return 0
        grep -qis 'address already in use' "$dir"/*.log || break
        kill_all
    done
    echo "servers: they don't start, after $attempt of 3 attempts" >&2
    exit 1
}

# finish: whatever happened, nothing of ours is left. A command that we outlive has five seconds to end.
finish() {
    trap '' HUP INT TERM
    if [[ -n $command ]]; then
        kill -TERM -- "-$command" 2>/dev/null || true
        local deadline=$((SECONDS + 5))
        while kill -0 -- "-$command" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.05; done
        kill -KILL -- "-$command" 2>/dev/null || true
    fi
    wait # for servers on their way up
    kill_all
}

run() {
    local code=0
    start
    eval "$(environment)"
    set -m # it has a process group of its own, to be ended as a whole
    "$@" <&0 &
    command=$!
    set +m
    wait "$command" || code=$?
    command=
    exit "$code"
}

usage() {
    sed -n '2,/^set /s/^# \?//p' "$scripts/servers.sh" >&2
    exit 2
}

trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
case ${1:-}:$# in
run:1) usage ;;
run:*)
    shift
    # shellcheck disable=SC2046 # processes are words. One is enough: a test may have stopped the others
    if kill -0 $(cat "${ONCEFLIGHT_TEST_SERVERS:-/nowhere}"/*.pid 2>/dev/null) 2>/dev/null; then exec "$@"; fi
    run "$@"
    ;;
start:1)
    start
    environment
    dir=
    ;;
stop:2)
    [[ -e $2/control ]] || { echo "servers: $2 isn't a directory of ours" >&2 && exit 2; }
    dir=$2
    ;;
*) usage ;;
esac
