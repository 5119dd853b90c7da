-- Remember a failure, if the token is current.
-- KEYS  1 generation  2 failures
-- ARGV  1 token  2 digest  3 failure  4 milliseconds until its time is over  5 now in seconds
--       6 most failures
-- Result 1 stored (or not, when there are too many), 0 the token is old
local stored = redis.call('GET', KEYS[1])
if not stored or string.match(stored, '^(.*):') ~= ARGV[1] then return 0 end
if tonumber(ARGV[4]) <= 0 then return 1 end
if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[6]) then
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    -- The first field of record.py: the second when its time is over.
    local ends = tonumber(string.match(all[i + 1], '^%[(%-?%d+),'))
    if not ends or ends <= tonumber(ARGV[5]) then redis.call('HDEL', KEYS[2], all[i]) end
  end
end
if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[6]) and redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then
  return 1
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
-- The whole hash lives as long as its last failure; readers drop what is over.
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
return 1
