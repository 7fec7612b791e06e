-- After record.lua in a claim, before claim.lua: most keys that are claimed have no record.
--
-- KEYS    the record, the counter of epochs of its partition
-- first   the record of a first attempt, as layout.rs makes it
-- lasts   for how many milliseconds; '' is for ever
-- asks    whether to take over, whether to watch, and the epoch that is followed

local first, lasts, asks = unpack(ARGV)

if not found then
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  epoch = now
  -- The time's own digits: to make those of a number takes as long as some commands.
  local last = tonumber(redis.call('GETSET', KEYS[2], time[1] .. sub('00000' .. time[2], -6))) or 0
  if last >= epoch then
    epoch = last + 1
    redis.call('SET', KEYS[2], epoch)
  end
  local ends = struct.unpack('<i8', first, 48)
  if ends >= 0 then
    ends = now + ends
  end
  local record = struct.pack('<c19I8c20i8', first, epoch, sub(first, 28, 47), ends) .. sub(first, 56)
  if lasts == '' then
    redis.call('SET', KEYS[1], record)
  else
    redis.call('SET', KEYS[1], record, 'PX', lasts)
  end
  return -epoch -- all that there is to say, and an array would cost as much as two commands; no other script answers so
end
