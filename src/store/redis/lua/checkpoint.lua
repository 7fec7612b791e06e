local lead, checkpoint = unpack(ARGV)

if state ~= 'P' or held ~= lead then
  return STALE
end
local record = sub(found, 1, 15) .. struct.pack('<i4', #checkpoint) .. sub(found, 20, HEAD + names + prints) .. checkpoint
redis.call('SET', KEYS[1], record, 'KEEPTTL')
return DONE
