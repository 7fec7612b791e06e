local whole = ARGV[1]

local left = found and redis.call('PTTL', KEYS[1])
if not found or left >= 0 and left <= GRACE then
  return false
end
local time = redis.call('TIME')
local attempt, ends = struct.unpack('<I4i8', found, 44)
local lease_left = state == 'P' and ends >= 0 and math.max(ends - time[1] * 1000000 - time[2], 0)
local print_at = HEAD + names + 1
return {
  sub(found, HEAD + 1, HEAD + names), sub(found, print_at, print_at + prints - 1), state, epoch, attempt, lease_left,
  left >= 0 and left - GRACE, status, whole == '1' and rests >= 0 and sub(found, print_at + prints),
}
