-- KEYS: the record, the counter of epochs of its partition
-- A look at the cases in the order of MemoryStore::claim.

local scope, key, token, fp, lease, keep, take_over, watch, following = unpack(ARGV)

local function grant()
  local last = tonumber(redis.call('GET', KEYS[2]) or 0)
  if not last then
    return redis.error_reply('CORRUPT counter of epochs')
  end
  -- The clock: so that epochs don't go back where the counter was lost. The record's: likewise.
  local epoch = math.max(last + 1, now, row and row.epoch + 1 or 0)
  -- What goes on is the same flight's; anything else is forgotten.
  local goes_on = row and not expired and row.state ~= 'completed' and row.fp == fp
  local attempt = goes_on and math.min(row.attempt + 1, 4294967295) or 1
  local checkpoint = goes_on and redis.call('HGET', KEYS[1], 'checkpoint') or false
  local ends, expires = lease_from_now(tonumber(lease), tonumber(keep))

  redis.call('SET', KEYS[2], epoch)
  if row and not goes_on then
    redis.call('DEL', KEYS[1])
  end
  redis.call('HSET', KEYS[1], 'v', 1, 'scope', scope, 'key', key, 'fp', fp, 'state', 'in_progress', 'token', token,
    'epoch', epoch, 'attempt', attempt, 'lease', ends or '', 'expires', expires or '', 'keep', keep, 'watched', 0)
  drop_after(expires)
  return {'lead', epoch, attempt, checkpoint, goes_on and row.state == 'in_progress' and 1 or 0}
end

if not row then
  return grant()
end
if row.scope ~= scope or row.key ~= key then
  return {'other', row.scope, row.key}
end
if row.state == 'in_progress' and row.token == token then -- sent again: the first answer was lost
  return {'lead', tonumber(row.epoch), row.attempt, redis.call('HGET', KEYS[1], 'checkpoint'), 0}
end
local same = row.fp == fp
local follows = following ~= '' and tonumber(row.epoch) >= tonumber(following)
if row.state == 'completed' and same and (follows or not expired) then
  return {'completed', unpack(redis.call('HMGET', KEYS[1], 'status', 'body'))}
end
if expired then
  return grant()
end
if not same and (row.state ~= 'released' or redis.call('HEXISTS', KEYS[1], 'checkpoint') == 1) then
  return {'mismatch'}
end
if row.state == 'in_progress' and (not row.lease or row.lease > now) then
  if watch == '1' and not row.watched then
    redis.call('HSET', KEYS[1], 'watched', 1)
  end
  return {'in_progress', tonumber(row.epoch), row.lease and row.lease - now or false}
end
if row.state == 'in_progress' and take_over ~= '1' then
  return {'unknown'}
end
return grant()
