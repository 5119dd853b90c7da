-- Record that an entry exists, if the token is current.
-- KEYS  1 generation  2 members
-- ARGV  1 token read before the fill  2 digest  3 size  4 most members  5 milliseconds to keep them
-- Result 1 recorded (or not listed, when there are too many), 0 the token is old
-- A field of its own among the members stays when all of them are forgotten: another node may still
-- have what one has evicted. overtake.lua looks at it.
local stored = redis.call('GET', KEYS[1])
if not stored or string.match(stored, '^(.*):') ~= ARGV[1] then return 0 end
redis.call('HSETNX', KEYS[2], '+', '')
if redis.call('HLEN', KEYS[2]) <= tonumber(ARGV[4]) or redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 1
