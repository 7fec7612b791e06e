if not row or row.state == 'in_progress' then
  return 0
end
redis.call('DEL', KEYS[1])
return expired and 0 or 1
