-- Before every script: what the record is, at this moment of the server's clock.
--
--   now      microseconds since 1970; scripts see one moment from beginning to end
--   row      the record, nil if there is none. Its lease, expires and keep are nil where there are none
--   expired  it is there, but counts as gone
--
-- Every script looks first and writes last: what fails has changed nothing. Numbers go into commands
-- as they are, which write all digits of one below 2^53; a `..` would round them.

-- The token of a record whose lead was abandoned.
local NOBODY = string.rep('\0', 16)

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local row, expired

local found = redis.pcall('HMGET', KEYS[1], 'v', 'scope', 'key', 'fp', 'state', 'token', 'epoch', 'attempt', 'lease',
  'expires', 'keep', 'watched')

if found.err then
  return string.find(found.err, 'WRONGTYPE', 1, true) and redis.error_reply('CORRUPT no hash') or found
end
if found[1] or redis.call('EXISTS', KEYS[1]) == 1 then
  local v, scope, key, fp, state, token, epoch, attempt, lease, expires, keep, watched = unpack(found)
  local function digits(text, least)
    return text and #text >= least and #text <= 16 and not string.find(text, '%D')
  end
  if digits(v, 1) and v ~= '1' then
    return redis.error_reply('FORMAT ' .. v)
  end
  local whole = v == '1' and scope and key and fp and token and #token == 16
    and (state == 'in_progress' or state == 'completed' or state == 'released')
    and digits(epoch, 1) and digits(attempt, 1) and digits(lease, 0) and digits(expires, 0) and digits(keep, 0)
    and (watched == '0' or watched == '1')
    and (state == 'in_progress' or expires ~= '')
  if not whole then
    return redis.error_reply('CORRUPT fields are missing or wrong')
  end
  row = {
    scope = scope, key = key, fp = fp, state = state, token = token, epoch = epoch, attempt = tonumber(attempt),
    lease = tonumber(lease), expires = tonumber(expires), keep = tonumber(keep), watched = watched == '1',
  }
  expired = row.expires ~= nil and row.expires <= now
end

-- Whether the record is led by this claim.
local function led_by(token, epoch)
  return row ~= nil and row.state == 'in_progress' and row.token == token and row.epoch == epoch
end

-- When a lease that begins now ends, and when its lead is forgotten; either may be nil.
local function lease_from_now(length, keep)
  local ends = length and now + length
  return ends, ends and keep and ends + keep
end

-- Lets the server drop the record, some time after it counts as gone; never, if that is nil.
local function drop_after(expires)
  if expires then
    redis.call('PEXPIREAT', KEYS[1], math.ceil(expires / 1000) + GRACE)
  else
    redis.call('PERSIST', KEYS[1])
  end
end

-- Tells those who wait for the record.
local function tell(channel)
  redis.call('PUBLISH', channel, string.sub(KEYS[1], -32))
end
