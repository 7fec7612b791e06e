local whole = ARGV[1]

if not row or expired then
  return false
end
local status, body, checkpoint = false, false, false
if whole == '1' then
  status, body, checkpoint = unpack(redis.call('HMGET', KEYS[1], 'status', 'body', 'checkpoint'))
end
local lease_left = row.state == 'in_progress' and row.lease and math.max(row.lease - now, 0)
local expires_in = row.expires and row.expires - now
return {
  row.scope, row.key, row.fp, row.state, tonumber(row.epoch), row.attempt,
  lease_left or false, expires_in or false, checkpoint, status, body, -- a nil would end the answer
}
