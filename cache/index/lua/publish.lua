-- Record that an entry exists, if the token is current.
-- KEYS  1 generation  2 members
-- ARGV  1 token read before the fill  2 digest  3 size  4 most members  5 milliseconds to keep them
-- Result 1 recorded (or not listed, when there are too many), 0 the token is old
local stored = redis.call('GET', KEYS[1])
if not stored or string.match(stored, '^(.*):') ~= ARGV[1] then return 0 end
if redis.call('HLEN', KEYS[2]) < tonumber(ARGV[4]) or redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
return 1
