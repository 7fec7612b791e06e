-- KEYS: the record, the counter of epochs of its partition
-- A look at the cases in the order of MemoryStore::claim.

local name, print, token, lease, keep, lasts, take_over, watch, following = unpack(ARGV)

-- What the new lead goes on from.
local attempt, rest, same, expired
local lost = 0

if found then
  local other = sub(found, HEAD + 1, HEAD + names)
  if other ~= name then
    return {'other', other}
  end
  attempt = struct.unpack('<I4', found, 44)
  same = sub(found, HEAD + names + 1, HEAD + names + prints) == print
  rest = rests >= 0 and sub(found, HEAD + names + prints + 1)
  if state == 'P' and sub(held, 9) == token then -- sent again: the first answer was lost
    return {'lead', epoch, attempt, rest, 0}
  end
  local left = redis.call('PTTL', KEYS[1])
  expired = left >= 0 and left <= GRACE
  local follows = following ~= '' and epoch >= tonumber(following)
  if state == 'C' and same and (follows or not expired) then
    return {'completed', status, rest}
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

if found and not expired then
  if not same and (state ~= 'R' or rest) then
    return {'mismatch'}
  end
  local ends = struct.unpack('<i8', found, 48)
  if state == 'P' and (ends < 0 or ends > now) then
    if watch == '1' and watched == '0' then
      redis.call('SETRANGE', KEYS[1], 2, '1')
    end
    return {'in_progress', epoch, ends >= 0 and ends - now}
  end
  if state == 'P' and take_over ~= '1' then
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
epoch = math.max(now, epoch and epoch + 1 or 0)
local last = tonumber(redis.call('GETSET', KEYS[2], epoch)) or 0
if last >= epoch then
  epoch = last + 1
  redis.call('SET', KEYS[2], epoch)
end
lease = tonumber(lease)
local record = struct.pack('<c3i4I4I4i4I8c16I4i8i8', FORMAT .. 'P0', 0, #name, #print, rest and #rest or -1, epoch, token,
  attempt, lease < 0 and -1 or now + lease, keep) .. name .. print .. (rest or '')
if lasts == '' then
  redis.call('SET', KEYS[1], record)
else
  redis.call('SET', KEYS[1], record, 'PX', lasts)
end
if attempt == 1 then -- nothing else is to be said, and an array would cost as much as two commands
  return -epoch -- no other script answers so
end
return {'lead', epoch, attempt, rest, lost}
