local token, epoch, status, body, ttl, channel = unpack(ARGV)

if not led_by(token, epoch) then
  local before = row and row.state == 'completed' and row.token == token and row.epoch == epoch
  return before and 'done' or 'stale'
end
if row.watched then
  tell(channel)
end
local expires = now + ttl
redis.call('HSET', KEYS[1], 'state', 'completed', 'status', status, 'body', body, 'expires', expires, 'watched', 0)
redis.call('HDEL', KEYS[1], 'checkpoint')
drop_after(expires)
return 'done'
