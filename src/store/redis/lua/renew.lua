local token, epoch, lease = unpack(ARGV)

if not led_by(token, epoch) then
  return 'stale'
end
local ends, expires = lease_from_now(tonumber(lease), row.keep)
redis.call('HSET', KEYS[1], 'lease', ends or '', 'expires', expires or '')
drop_after(expires)
return 'done'
