-- Append an order to the log.
-- KEYS  1 state (hash: epoch, head, horizon, forgotten, sizes)  2 orders for tags and prefixes
--       3 orders for single sources (both sorted sets: "SEQ:ORDER", scored by seq)
--       4 what is taken down (hash: digest of a source -> its name)
-- ARGV  1 epoch to begin with  2 seq that is known to have been used  3 order
--       4 set to append to, 2 or 3  5 most orders of a set  6 'take-down', 'lift' or ''
--       7 digest of the source  8 its name  9 most take-downs  10 channel
-- Result {seq, replicas that are connected}; seq '' when too many are taken down
local info = redis.pcall('INFO', 'replication')
local replicas = type(info) == 'string' and string.match(info, 'connected_slaves:(%d+)')
local function sizes()
  return redis.call('ZCARD', KEYS[2]) .. ':' .. redis.call('ZCARD', KEYS[3]) .. ':' .. redis.call('HLEN', KEYS[4])
end
local epoch, head, kept = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'head', 'sizes'))
-- A part that was evicted is a loss of the log, though the rest is still there.
if not epoch or kept ~= sizes() then
  epoch = ARGV[1]
end
if ARGV[6] == 'take-down' then
  if redis.call('HLEN', KEYS[4]) >= tonumber(ARGV[9]) and redis.call('HEXISTS', KEYS[4], ARGV[7]) == 0 then
    return {'', 0}
  end
  redis.call('HSET', KEYS[4], ARGV[7], ARGV[8])
elseif ARGV[6] == 'lift' then
  redis.call('HDEL', KEYS[4], ARGV[7])
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- Lua prints 15 digits and more in exponent form unless told otherwise.
local seq = string.format('%.0f', math.max(tonumber(head or 0) + 1, tonumber(ARGV[2]) + 1, now))
local log = KEYS[tonumber(ARGV[4])]
redis.call('ZADD', log, seq, seq .. ':' .. ARGV[3])
local surplus = redis.call('ZCARD', log) - tonumber(ARGV[5])
if surplus > 0 then
  local last = redis.call('ZRANGE', log, surplus - 1, surplus - 1, 'WITHSCORES')
  local edge = ARGV[4] == '2' and 'horizon' or 'forgotten'
  redis.call('HSET', KEYS[1], edge, string.match(last[1], '^%d+'))
  redis.call('ZREMRANGEBYRANK', log, 0, surplus - 1)
end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'head', seq, 'sizes', sizes())
-- A user who may not publish has a log all the same: readers ask on a timer, too.
redis.pcall('PUBLISH', ARGV[10], seq)
return {seq, tonumber(replicas or 0)}
