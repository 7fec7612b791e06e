#!/usr/bin/env bash
# One of the test servers: DIR/NAME.start, .stop, .kill, .freeze and .thaw are links to this file (see servers.sh).
#
# start    on DIR/NAME.port; returns once it answers. DIR/NAME.pid is its first process, DIR/NAME.log what it says
# stop     as an administrator would
# kill     SIGKILL to all its processes. Redis and Postgres still have what they acknowledged, as after a stop
# freeze   it keeps its connections and answers nothing, until
# thaw
#
# Each returns when it is done, and does nothing if there is nothing to do.
set -euo pipefail
dir=$(cd "$(dirname "$0")" && pwd)
link=$(basename "$0")
name=${link%.*} verb=${link##*.}
data=$dir/$name.data log=$dir/$name.log pid_file=$dir/$name.pid
port=$(<"$dir/$name.port")
as=() postgres='' # who runs the servers; where Postgres's programs are
# shellcheck disable=SC1091 # written by servers.sh
. "$dir/settings"
cd "$dir" # the servers' user may not see where we were

# state NAME: R running, S sleeping, T stopped, ...; nothing if it is gone, or gone but for its parent's notice.
state() {
    [[ -s $dir/$1.pid ]] && sed -n 's/^State:\t\([^ZX]\).*/\1/p' "/proc/$(<"$dir/$1.pid")/status" 2>/dev/null
}

running() { [[ -n $(state "$name") ]]; }

# Postgres has a process a connection.
processes() {
    echo "$pid"
    pgrep -P "$pid" || true
}

# await SECONDS COMMAND...: until it holds.
await() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        if ((SECONDS >= deadline)); then
            echo "$link: no luck with: $*" >&2
            return 1
        fi
        sleep 0.02
    done
}

# launch COMMAND...: a session of its own, for Ctrl-C isn't meant for it; none of our files, for locks and pipes last as
# long as somebody has them open.
launch() {
    (
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            ((fd <= 2 || fd == 255)) || eval "exec $fd>&-"
        done
        exec setsid "${as[@]}" "$@" </dev/null >>"$log" 2>&1
    ) &
    pid=$!
    echo "$pid" >"$pid_file"
}

launch_server() {
    # Somebody else may have killed it a moment ago.
    [[ ! -e $pid_file ]] || await 60 gone "$(<"$pid_file")" || return
    case $name in
    postgres)
        [[ -e $data/PG_VERSION ]] || "${as[@]}" "$postgres/initdb" -D "$data" -U postgres --auth trust \
            -E UTF8 --locale C --no-sync >>"$log" 2>&1 || return
        # Shared memory in files: a killed server leaves none in /dev/shm.
        launch "$postgres/postgres" -D "$data" -p "$port" -k "$dir" -c listen_addresses=127.0.0.1 \
            -c max_connections=300 -c dynamic_shared_memory_type=mmap
        ;;
    redis*)
        local cluster=()
        [[ $name == redis ]] || cluster=(--cluster-enabled yes --cluster-node-timeout 5000)
        # With no, all is written before it is acknowledged, and so outlives a kill; with everysec that may wait for a
        # sync. Always would outlive a power cut too, which no test makes.
        launch redis-server --port "$port" --bind 127.0.0.1 --dir "$data" --save '' --appendonly yes --appendfsync no \
            "${cluster[@]}"
        ;;
    # Room for a million records, though one of the two has more of them; it takes what it needs.
    memcached*) launch memcached -l 127.0.0.1 -p "$port" -m 1024 ;;
    esac
}

# redis_says TEXT COMMAND...: the answer to it has that text.
redis_says() { [[ $(timeout 2 redis-cli -p "$port" "${@:2}" 2>/dev/null) == *"$1"* ]]; }

# A node takes two seconds to trust its cluster again. It may never, if another node can't answer.
joined() {
    local node
    [[ $name == redis-cluster-* && -e $dir/cluster.log ]] || return 0
    for node in redis-cluster-{1,2,3}; do
        [[ $(state "$node") == [RSD] ]] || return 0
    done
    redis_says cluster_state:ok cluster info
}

# Asks for what only this very process can say: somebody else may have been quicker to take the port.
answers_or_ended() {
    running || return 0
    case $name in
    postgres) "$postgres/pg_isready" -q -h "$dir" -p "$port" -U postgres ;;
    redis*) redis_says "process_id:$pid" info server && redis_says PONG ping && joined ;;
    memcached*)
        exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'stats\r\n' >&3 && read -r -t 2 line <&3 &&
            [[ $line == "STAT pid $pid"* ]]
        ;;
    esac 2>/dev/null
}

# gone PROCESS...: with all their threads, which may outlive the first one and hold its port.
gone() {
    local process
    for process in "$@"; do
        ! grep -qs $'^State:\t[^ZX]' "/proc/$process/task"/*/status || return 1
    done
}

pid=
! running || pid=$(<"$pid_file")
case $verb in
start)
    trap : HUP INT TERM # half-way, it would start a server that nobody knows
    if ! { [[ -n $pid ]] || launch_server; } || ! await 60 answers_or_ended || ! running; then
        tail -n 20 "$log" >&2
        echo "$link: FAILED" >&2
        exit 1
    fi
    ;;
stop)
    [[ -n $pid ]] || exit 0
    "$dir/$name.thaw"
    if [[ $name == postgres ]]; then kill -INT "$pid"; else kill -TERM "$pid"; fi # Postgres would wait for its clients
    await 60 gone "$pid"
    rm "$pid_file"
    ;;
kill)
    if [[ -n $pid ]]; then
        kill -STOP "$pid" # it starts no more processes
        mapfile -t all < <(processes)
        kill -KILL "${all[@]}" 2>/dev/null
        await 60 gone "${all[@]}"
        rm "$pid_file"
    fi
    # Postgres would clear this away as it starts again. But it may never; and where dead processes stay for a while, as
    # in some containers, it takes them for living ones and refuses.
    if [[ $name == postgres && -e $data/postmaster.pid ]]; then
        ipcrm -m "$(sed -n '7s/.* //p' "$data/postmaster.pid")" 2>/dev/null || true
        rm -f "$data/postmaster.pid" .s.PGSQL.*
    fi
    ;;
freeze | thaw)
    [[ -n $pid ]] || exit 0
    if [[ $verb == freeze ]]; then signal=STOP; else signal=CONT; fi
    kill -$signal "$pid"
    mapfile -t all < <(processes)
    kill -$signal "${all[@]}" 2>/dev/null
    ;;
*)
    echo "$link: start, stop, kill, freeze or thaw?" >&2
    exit 2
    ;;
esac
