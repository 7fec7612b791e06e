local token, epoch, checkpoint = unpack(ARGV)

if not led_by(token, epoch) then
  return 'stale'
end
redis.call('HSET', KEYS[1], 'checkpoint', checkpoint)
return 'done'
