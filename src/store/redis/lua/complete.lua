-- begin   what a completed record begins with, up to the lengths

local lead, begin, body, lasts = unpack(ARGV)

if state ~= 'P' or held ~= lead then
  return state == 'C' and held == lead and DONE or STALE
end
if watched == '1' then
  redis.call('PUBLISH', CHANNEL, sub(KEYS[1], -32))
end
local kept = sub(found, 20, HEAD + names + prints)
redis.call('SET', KEYS[1], struct.pack('<c7I4I4i4', begin, names, prints, #body) .. kept .. body, 'PX', lasts)
return DONE
