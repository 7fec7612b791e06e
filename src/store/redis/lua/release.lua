-- how: cancel, or abandon. An epoch of '' withdraws this token's claim, whatever its epoch was: a first attempt is
-- cancelled, a later one abandoned, since what it took over may have happened.

local token, epoch, how, successor, keep, channel = unpack(ARGV)

if not row then
  return 'done'
end
if row.state == 'in_progress' and row.token == NOBODY and row.epoch == epoch then
  return 'done' -- sent again: it was abandoned
end
if row.token ~= token or (row.epoch ~= epoch and epoch ~= '') then
  return 'stale'
end
if row.state ~= 'in_progress' then
  return row.state == 'released' and 'done' or 'stale'
end
if epoch == '' and row.attempt > 1 then
  how = 'abandon'
end
if row.watched then
  tell(channel)
end
if how == 'abandon' then
  -- The token goes: a renewal that was under way must not revive the lead.
  redis.call('HSET', KEYS[1], 'token', NOBODY, 'lease', now, 'watched', 0)
elseif successor == '1' or row.watched or redis.call('HEXISTS', KEYS[1], 'checkpoint') == 1 then
  local expires = now + keep
  redis.call('HSET', KEYS[1], 'state', 'released', 'expires', expires, 'watched', 0)
  drop_after(expires)
else
  redis.call('DEL', KEYS[1])
end
return 'done'
