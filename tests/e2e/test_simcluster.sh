#!/bin/bash
# tests/e2e/test_simcluster.sh: simulate cluster replays a year of a cluster in little time, gives the same
# answer for the same seed, orders the policies as they must be, and refuses what makes no sense.
E2E_SECONDS=120
source "$(dirname "$0")/lib.sh"
unset UNLEARN_DIR

# The year: 10^6 records, 64 x 16 cells, 4 sequences, 1,000 deletions a day, ranks that fail.
YEAR=(simulate cluster --records 1000000 --shards 64 --slices 16 --budget 4 --epochs 10 --days 365
  --per-day 1000 --mtbf 720)
read -r cpu deletions open late lost < <(json '(.policies[0] | [.deletions, .open, .late, .lost.stages]) as $p |
  [.cpu_seconds] + $p | join(" ")' "${YEAR[@]}" --policy deadline)
expect_number "a year takes $cpu s of CPU" "$cpu" '<' 60
expect_number "and has $deletions deletions, 365,000 but for chance" "($deletions - 365000) | fabs" '<' 3000
expect_number "of which $open are open at its end" "$open" '<' 100
expect_equal "and none is late" "$late" 0
expect_number "$lost stages were lost with their ranks" "$lost" '>' 0
expect_number "10^9 records and 1,000 ranks: CPU seconds" "$(json .cpu_seconds simulate cluster \
  --records 1000000000 --shards 512 --slices 16 --budget 4 --days 30 --ranks 1000 --mtbf 720 \
  --seconds-per-sample 0.0001 --policy deadline)" '<' 10

SHAPE=(simulate cluster --records 20000 --shards 8 --slices 4 --budget 2 --days 20 --per-day 100 --ranks 4
  --seconds-per-sample 0.01 --mtbf 24 --due 2d)
same() { json 'del(.cpu_seconds)' "${SHAPE[@]}" "$@"; }
expect_equal "the same seed gives the same answer" "$(same --seed 5)" "$(same --seed 5)"
expect_differ "another seed another one" "$(same --seed 5)" "$(same --seed 6)"
ONE=$(json '.policies[0].trained' "${SHAPE[@]}" --policy batch:50)
expect_equal "a policy's answer does not depend on the others" "$ONE" \
  "$(json '.policies[2].trained' "${SHAPE[@]}" --policy deadline,eager,batch:50)"
of() { json "[.policies[] | $1] | join(\" \")" "${SHAPE[@]}" --policy deadline,batch:50; }
read -r now later < <(of .trained.samples)
expect_number "gathering saves samples" "$later" '<' "$now"
read -r now later < <(of .repair_seconds.mean)
expect_number "and takes time" "$later" '>' "$now"
read -r now later < <(of .slices_served.mean)
expect_number "while shorter lists answer" "$later" '<' "$now"
RISK=(--risk-people 95,5 --risk-deletions 20,80 --policy deadline)
expect_number "risk classes in shards of their own save samples" \
  "$(json '.policies[0].trained.samples' "${SHAPE[@]}" "${RISK[@]}" --risk '[0=0-6/*, 1=7/*]')" '<' \
  "$(json '.policies[0].trained.samples' "${SHAPE[@]}" "${RISK[@]}")"
expect_equal "people get a table, a column for each policy" \
  "$(ctl "${SHAPE[@]}" 2>/dev/null | head -1 | tr -s ' ')" " deadline eager batch:100 batch:1000"
expect_equal "the older simulate is still there" \
  "$(json .trials simulate --shards 5 --slices 4 --trials 10)" 10

expect_exit 2 '--records N, --shards S and --slices L' ctl simulate cluster --shards 5
expect_exit 2 '--policy, number 2|batch:N' ctl "${SHAPE[@]}" --policy deadline,often
expect_exit 2 '--policy names more than 8' ctl "${SHAPE[@]}" --policy eager,eager,eager,eager,eager,eager,eager,eager,eager
expect_exit 2 '--per-day' ctl "${SHAPE[@]}" --per-day many
expect_exit 2 'per-day is 0' ctl "${SHAPE[@]}" --per-day 0
expect_exit 4 'more than 20000000 in all' ctl "${SHAPE[@]}" --per-day 1e9
expect_exit 2 '--mtbf is 0' ctl "${SHAPE[@]}" --mtbf 0
expect_exit 2 'seconds-per-sample is 0' ctl "${SHAPE[@]}" --seconds-per-sample 0
expect_exit 2 'counts from each deletion' ctl "${SHAPE[@]}" --due 2030-01-01
expect_exit 2 'ranks is 0' ctl "${SHAPE[@]}" --ranks 0
expect_exit 2 'budget is 25|orders of 4 slices' ctl "${SHAPE[@]}" --budget 25
expect_exit 4 'shards * slices * budget' ctl "${SHAPE[@]}" --shards 4096 --slices 200 --budget 200
expect_exit 2 'need --risk-people and --risk-deletions' ctl "${SHAPE[@]}" --risk '1=7/*'
expect_exit 2 'has 2 numbers and --risk-deletions 1' ctl "${SHAPE[@]}" --risk-people 1,2 --risk-deletions 1
expect_exit 2 '--risk-people, number 2' ctl "${SHAPE[@]}" --risk-people 1,x --risk-deletions 1,1
expect_exit 2 'risk' ctl "${SHAPE[@]}" "${RISK[@]}" --risk '1=8/*'

"$E2E_BIN/unlearnctl" simulate cluster --records 1000000 --shards 64 --slices 16 --budget 4 --days 3660 \
  --json >"$SCRATCH/answer" 2>"$SCRATCH/error" 9>&- &
pid=$!
sleep 1
kill -TERM $pid
code=0
wait $pid || code=$?
expect_equal "who interrupts it gets exit code 5" $code 5
expect_equal "and no figures" "$(jq -r 'keys | join(" ")' "$SCRATCH/answer")" error

finish
