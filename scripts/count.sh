#!/usr/bin/env bash
# Adds up the tests of the steps whose logs are in a directory: count.sh DIRECTORY [SUITE].
#
# A step's tests are the sum of cargo's "test result:" lines, or else its last "N passed, N failed" line
# (or the models' "N controls, N failed").
# A step that failed with no failed test counts as one. Fails if anything did, or if no test ran.
set -euo pipefail
shopt -s nullglob

passed=0 failed=0
printf '\n%-28s %8s %8s %8s\n' step seconds passed failed
for log in "$1/${2:-}"*.log; do
    read -r code seconds <"$log.end"
    read -r good bad < <(awk '
        /^test result: .* passed; .* failed;/ { cargo = 1; good += $4; bad += $6 }
        !cargo && /^([^ ]+: )?[0-9]+ passed, [0-9]+ failed$/ { good = $(NF - 3); bad = $(NF - 1) }
        /^[0-9]+ controls, [0-9]+ failed$/ { good = $1 - $3; bad = $3 }
        END { print good + 0, bad + 0 }' "$log")
    if ((code != 0 && bad == 0)); then bad=1; fi
    name=$(basename "$log" .log)
    printf '%-28s %8d %8d %8d\n' "${name/.[0-9][0-9]./ }" "$seconds" "$good" "$bad"
    passed=$((passed + good)) failed=$((failed + bad))
done
echo
echo "$passed passed, $failed failed"
((passed > 0 && failed == 0))
