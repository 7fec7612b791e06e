-- Without record.lua: this is how one gets rid of a record that can't be read.

local watched = redis.pcall('GETRANGE', KEYS[1], 2, 2)
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if watched ~= '0' then -- what can't be asked may be watched
  redis.call('PUBLISH', CHANNEL, string.sub(KEYS[1], -32))
end
return redis.call('DEL', KEYS[1])
