local lead, lease = unpack(ARGV)

if state ~= 'P' or held ~= lead then
  return STALE
end
lease = tonumber(lease)
local ends, keep = -1, struct.unpack('<i8', found, 56)
if lease >= 0 then
  local time = redis.call('TIME')
  ends = time[1] * 1000000 + time[2] + lease
end
redis.call('SETRANGE', KEYS[1], 47, struct.pack('<i8', ends))
if lease >= 0 and keep >= 0 then
  redis.call('PEXPIRE', KEYS[1], math.ceil((lease + keep) / 1000) + 1 + GRACE) -- as `outlasts` in mod.rs
else
  redis.call('PERSIST', KEYS[1])
end
return DONE
