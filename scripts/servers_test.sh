#!/usr/bin/env bash
# Whether servers.sh and server.sh do what they say.
set -euo pipefail
servers=$(realpath "$(dirname "$0")")/servers.sh
unset "${!ONCEFLIGHT_TEST_@}"

# All directories and working directories of theirs are in here, so that what is left of them can be found.
work=$(mktemp -d)
chmod 711 "$work"
trap '[[ -z ${ONCEFLIGHT_TEST_SERVERS:-} ]] || "$servers" stop "$ONCEFLIGHT_TEST_SERVERS"; rm -rf "$work"' EXIT
export TMPDIR=$work
mkfifo "$work/up"

passed=0 failed=0
# check WHAT COMMAND...
check() {
    local what=$1
    shift
    if "$@" >"$work/output" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '%s FAILED: %s\n' "$what" "$*"
        cat "$work/output"
    fi
}

answer() { [[ $("${@:2}") == "$1" ]]; }
refused() { ! "$@"; }
nothing_left() {
    local directories
    directories=$(readlink /proc/[0-9]*/cwd || true) # some processes are gone meanwhile
    ! compgen -G "$work/onceflight.*" && ! grep "^$work" <<<"$directories"
}

# exits CODE COMMAND...
exits() {
    local code=0
    "${@:2}" || code=$?
    ((code == $1))
}

# silent COMMAND...: a program, ended for it wouldn't.
silent() { exits 124 timeout 0.5 "$@"; }

verb() { "$ONCEFLIGHT_TEST_SERVERS/$1"; }
sql() { psql -qAtX "$ONCEFLIGHT_TEST_POSTGRES" -c "$1"; }
redis() { redis-cli -u "$ONCEFLIGHT_TEST_REDIS" "$@"; }

# cluster COMMAND...: through the node that the URL names first.
cluster() {
    local nodes=${ONCEFLIGHT_TEST_REDIS_CLUSTER#redis-cluster://}
    redis-cli -c -u "redis://${nodes%%,*}" "$@"
}

# memcached NUMBER COMMAND...: the first line of its answer.
memcached() {
    local nodes line
    IFS=, read -ra nodes <<<"${ONCEFLIGHT_TEST_MEMCACHED#memcached://}"
    exec 3<>"/dev/tcp/${nodes[$1 - 1]/://}"
    printf '%b\r\n' "${*:2}" >&3
    read -r line <&3
    exec 3>&-
    echo "${line%$'\r'}"
}
export -f memcached

kept_by_cluster() {
    local n
    for n in {1..64}; do [[ $(cluster get "key$n") == "$n" ]] || return 1; done
}

eval "$("$servers" start)"
check "Postgres answers" answer "1|on|UTF8" \
    sql "select 1, current_setting('fsync'), current_setting('server_encoding')"
check "Postgres takes 200 connections" answer t sql "select current_setting('max_connections')::int >= 200"
check "Redis answers" answer PONG redis ping
check "the cluster answers" answer cluster_state:ok eval "cluster cluster info | tr -d '\r' | grep state"
check "memcached answers" answer STORED memcached 1 "set key 0 0 5\r\nvalue"
check "the other memcached is another" answer END memcached 2 get key
check "a run within only runs the command" answer "$ONCEFLIGHT_TEST_SERVERS" \
    "$servers" run printenv ONCEFLIGHT_TEST_SERVERS

sql "create table kept (n int)" >/dev/null
for n in {1..64}; do cluster set "key$n" "$n"; done >/dev/null
ends=0
for end in stop kill; do
    ends=$((ends + 1))
    sql "insert into kept values (1)"
    redis incr key >/dev/null
    for server in postgres redis redis-cluster-2 memcached-1; do
        check "$server: $end" verb "$server.$end"
        check "$server: $end again" verb "$server.$end"
    done
    check "nobody is there after $end" refused sql "select 1"
    check "nobody is there after $end" refused redis ping
    for server in postgres redis redis-cluster-2 memcached-1; do check "$server: start" verb "$server.start"; done
    check "Postgres has it after $end" answer $ends sql "select count(*) from kept"
    check "Redis has it after $end" answer $ends redis get key
    check "the cluster has it after $end" kept_by_cluster
    check "memcached has forgotten after $end" answer END memcached 1 get key
done

coproc { psql -qAtX "$ONCEFLIGHT_TEST_POSTGRES"; }
session=$COPROC_PID # unset once it has ended
# say: what the session that is open says next, at last.
say() {
    local line
    read -r -t "$1" line <&"${COPROC[0]}" && echo "$line"
}
echo "select 1;" >&"${COPROC[1]}"
check "a session is open" answer 1 say 60
for server in postgres redis memcached-1; do check "$server: freeze" verb "$server.freeze"; done
echo "select 2;" >&"${COPROC[1]}"
check "frozen sessions are silent" refused say 0.5
check "frozen Postgres is silent" silent psql "$ONCEFLIGHT_TEST_POSTGRES" -c "select 1"
check "frozen Redis is silent" silent redis-cli -u "$ONCEFLIGHT_TEST_REDIS" ping
check "frozen memcached is silent" silent bash -c "memcached 1 version"
for server in postgres redis memcached-1; do check "$server: thaw" verb "$server.thaw"; done
check "the session goes on" answer 2 say 60
check "Redis goes on" answer PONG redis ping
check "memcached goes on" answer END memcached 1 get key
echo '\q' >&"${COPROC[1]}"
wait "$session"

check "a killed one can be frozen no more" verb redis.kill
check "a killed one can be frozen no more" verb redis.freeze
check "a frozen one can be stopped" eval "verb postgres.freeze && verb postgres.stop"
check "stop" "$servers" stop "$ONCEFLIGHT_TEST_SERVERS"
check "nothing is left after stop" nothing_left
unset "${!ONCEFLIGHT_TEST_@}"

check "the exit code is the command's" exits 7 "$servers" run bash -c 'exit 7'
check "nothing is left after a run" nothing_left
check "no command there" exits 127 "$servers" run /nowhere/command
check "the input is the command's" answer word "$servers" run cat <<<word
"$servers" run true &
check "two at once" "$servers" run true
check "two at once" wait $!

# signalled SIGNAL CODE: a run whose command is at work.
signalled() {
    set -m # without it, the shell would have it ignore interrupts
    (
        cd "$work"
        # What started this may have it ignore some: nohup, or a shell's background.
        exec env --default-signal=HUP,INT,TERM "$servers" run bash -c "echo up >up; sleep 1000 & wait"
    ) &
    set +m
    read -r <"$work/up"
    kill "-$1" $!
    exits "$2" wait $!
}
for signal in HUP:129 INT:130 TERM:143; do
    check "ended by $signal" signalled "${signal%:*}" "${signal#*:}"
    check "nothing is left after $signal" nothing_left
done

"$servers" run true &
until compgen -G "$work/onceflight.*/*.pid" >/dev/null; do sleep 0.01; done
kill -TERM $!
check "ended while it starts" exits 143 wait $!
check "nothing is left of a start" nothing_left

echo "$passed passed, $failed failed"
((failed == 0))
