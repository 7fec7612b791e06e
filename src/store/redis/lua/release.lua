-- how: cancel, or abandon. A lead that is a token alone withdraws that token's claim, whatever its epoch was: a first
-- attempt is cancelled, a later one abandoned, since what it took over may have happened.

local lead, how, successor, lasts = unpack(ARGV)
local withdraws = #lead == 16

if not found then
  return DONE
end
if state == 'P' and held == sub(lead, 1, 8) .. NOBODY then
  return DONE -- sent again: it was abandoned
end
if held ~= lead and not (withdraws and sub(held, 9) == lead) then
  return STALE
end
if state ~= 'P' then
  return state == 'R' and DONE or STALE
end
if withdraws and struct.unpack('<I4', found, 44) > 1 then
  how = 'abandon'
end
if watched == '1' then
  redis.call('PUBLISH', CHANNEL, sub(KEYS[1], -32))
end
if how == 'abandon' then
  -- The token goes: a renewal that was under way must not revive the lead.
  local time = redis.call('TIME')
  local ended = struct.pack('<i8', time[1] * 1000000 + time[2])
  redis.call('SETRANGE', KEYS[1], 2, '0' .. sub(found, 4, 27) .. NOBODY .. sub(found, 44, 47) .. ended)
elseif successor == '1' or watched == '1' or rests >= 0 then
  redis.call('SET', KEYS[1], FORMAT .. 'R0' .. sub(found, 4), 'PX', lasts)
else
  redis.call('DEL', KEYS[1])
end
return DONE
