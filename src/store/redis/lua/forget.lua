if not found or state == 'P' then
  return 0
end
local left = redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[1])
return (left < 0 or left > GRACE) and 1 or 0
