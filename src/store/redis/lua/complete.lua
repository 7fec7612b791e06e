local lead, status, body, lasts = unpack(ARGV)

if state ~= 'P' or held ~= lead then
  return state == 'C' and held == lead and 'done' or 'stale'
end
if watched == '1' then
  redis.call('PUBLISH', CHANNEL, sub(KEYS[1], -32))
end
local head = struct.pack('<c3i4I4I4i4', FORMAT .. 'C0', status, names, prints, #body)
redis.call('SET', KEYS[1], head .. sub(found, 20, HEAD + names + prints) .. body, 'PX', lasts)
return 'done'
