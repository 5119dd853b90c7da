-- Lead a flight, unless another one does.
-- KEYS  1 lease: "0OWNER", or "1OWNER" when somebody waits
-- ARGV  1 owner  2 milliseconds
-- Result 1 the caller leads, 0 another one does, and has been told that somebody waits
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 2) ~= ARGV[1] then
  if string.sub(held, 1, 1) == '0' then
    redis.call('SET', KEYS[1], '1' .. string.sub(held, 2), 'KEEPTTL')
  end
  return 0
end
redis.call('SET', KEYS[1], held or '0' .. ARGV[1], 'PX', ARGV[2])
return 1
