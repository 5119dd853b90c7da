-- The token of a source, made on first sight, and its record.
-- KEYS  1 generation  2 record  3 members
-- ARGV  1 token to begin with  2 milliseconds to keep a source that nobody asks for
-- Result {token, record or nil}
local token = redis.call('GET', KEYS[1])
if not token then
  -- Record and members of a token that is forgotten describe nothing any more.
  redis.call('UNLINK', KEYS[2], KEYS[3])
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {ARGV[1], false}
end
-- Renewed at half time only: a hit stays a read.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) / 2 then
  for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
end
return {token, redis.call('GET', KEYS[2])}
