-- The log after some seq.
-- KEYS  1 state  2 orders for tags and prefixes  3 orders for single sources  4 what is taken down
--       (see announce.lua)
-- ARGV  1 epoch to begin with  2 seq  3 most orders of each set
-- Result {epoch, head, horizon, forgotten, {"SEQ:ORDER", ...} of tags and prefixes, {...} of sources}
local function sizes()
  return redis.call('ZCARD', KEYS[2]) .. ':' .. redis.call('ZCARD', KEYS[3]) .. ':' .. redis.call('HLEN', KEYS[4])
end
local state = redis.call('HMGET', KEYS[1], 'epoch', 'head', 'horizon', 'forgotten', 'sizes')
-- A part that was evicted is a loss of the log, though the rest is still there.
if not state[1] or state[5] ~= sizes() then
  state[1] = ARGV[1]
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'sizes', sizes())
end
local function after(log)
  return redis.call('ZRANGEBYSCORE', log, '(' .. ARGV[2], '+inf', 'LIMIT', 0, ARGV[3])
end
return {state[1], state[2] or '0', state[3] or '0', state[4] or '0', after(KEYS[2]), after(KEYS[3])}
