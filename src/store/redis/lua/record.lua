-- Before every verb but evict.lua: looks at the record, in the layout that mod.rs documents.
--
--   found   all of it; false if there is none
--   state   'P' in progress, 'C' completed, 'R' released; nil if there is none
--   watched '1' if somebody waits elsewhere, else '0'
--   names, prints, rests    the lengths of its last three parts; rests is below 0 if there is no rest
--   epoch, held             the last lead's; held is epoch and token, as they stand in the record
--
-- Every script looks first and writes last: what fails has changed nothing. Numbers go into commands
-- as they are, which write all digits of one below 2^53; a `..` would round them. A string that is
-- made, by sub or pack, costs half of a command: claims and completions make few, and no functions.

local sub = string.sub

local found = redis.pcall('GET', KEYS[1])
local format, state, watched, status, names, prints, rests, epoch, held

if found then
  if found.err then -- a string has no such thing
    return string.find(found.err, 'WRONGTYPE', 1, true) and redis.error_reply('CORRUPT no string; before format 2 it was a hash') or found
  end
  if #found >= HEAD then
    format, state, watched, status, names, prints, rests, epoch = struct.unpack('<c1c1c1i4I4I4i4I8', found)
    held = sub(found, 20, 43)
  end
  if format ~= FORMAT then
    format = sub(found, 1, 1)
    return redis.error_reply(format == FORMAT and 'CORRUPT cut off' or string.find(format, '%d') and 'FORMAT ' .. format or 'CORRUPT no format')
  end
  local whole = #found == HEAD + names + prints + (rests > 0 and rests or 0)
    and (state == 'P' or state == 'R' or state == 'C' and rests >= 0)
    and (watched == '0' or watched == '1')
    and epoch < 2 ^ 53
  if not whole then
    return redis.error_reply('CORRUPT parts are missing or wrong')
  end
end
