-- After fresh.lua: there is a record. A look at the cases in the order of MemoryStore::claim.

local length = struct.unpack('<I4', first, 8)
local other = sub(found, HEAD + 1, HEAD + names)
if other ~= sub(first, HEAD + 1, HEAD + length) then
  return {'other', other}
end
local token = sub(first, 28, 43)
-- What the new lead goes on from.
local attempt = struct.unpack('<I4', found, 44)
local same = sub(found, HEAD + names + 1, HEAD + names + prints) == sub(first, HEAD + length + 1)
local rest = rests >= 0 and sub(found, HEAD + names + prints + 1)
local lost = 0

if state == 'P' and sub(held, 9) == token then -- sent again: the first answer was lost
  return {'lead', epoch, attempt, rest, 0}
end
local left = redis.call('PTTL', KEYS[1])
local expired = left >= 0 and left <= GRACE
local following = tonumber(sub(asks, 3))
local follows = following and epoch >= following
if state == 'C' and same and (follows or not expired) then
  return {'completed', status, rest}
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

if not expired then
  if not same and (state ~= 'R' or rest) then
    return {'mismatch'}
  end
  local ends = struct.unpack('<i8', found, 48)
  if state == 'P' and (ends < 0 or ends > now) then
    if sub(asks, 2, 2) == '1' and watched == '0' then
      redis.call('SETRANGE', KEYS[1], 2, '1')
    end
    return {'in_progress', epoch, ends >= 0 and ends - now}
  end
  if state == 'P' and sub(asks, 1, 1) ~= '1' then
    return {'unknown'}
  end
end

-- What goes on is the same flight's; anything else is forgotten.
if same and not expired then
  attempt = math.min(attempt + 1, 4294967295)
  lost = state == 'P' and 1 or 0
else
  attempt, rest = 1, false
end
-- The clock: so that epochs don't go back where the counter was lost. The record's: likewise.
epoch = math.max(now, epoch + 1)
local last = tonumber(redis.call('GETSET', KEYS[2], epoch)) or 0
if last >= epoch then
  epoch = last + 1
  redis.call('SET', KEYS[2], epoch)
end
local ends = struct.unpack('<i8', first, 48)
if ends >= 0 then
  ends = now + ends
end
local record = struct.pack('<c15i4I8c16I4i8', first, rest and #rest or -1, epoch, token, attempt, ends)
  .. sub(first, 56) .. (rest or '')
if lasts == '' then
  redis.call('SET', KEYS[1], record)
else
  redis.call('SET', KEYS[1], record, 'PX', lasts)
end
return {'lead', epoch, attempt, rest, lost}
