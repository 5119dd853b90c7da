-- The token of a source, made on first sight, and what is stored under it.
-- KEYS  1 generation  2 record  3 members
-- ARGV  1 token to begin with  2 now in milliseconds  3 barrier  4 head
--       5 milliseconds to keep a source that nobody asks for
-- Result {token, newest order applied, record or nil}
local shape = '^(' .. string.rep('[0-9a-f]', 16) .. '):(%d+):(%d+)$'
local stored = redis.call('GET', KEYS[1])
if not stored then
  -- Record and members of a token that is forgotten describe nothing any more.
  redis.call('UNLINK', KEYS[2], KEYS[3])
  redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[4], 'PX', ARGV[5])
  return {ARGV[1], ARGV[4], false}
end
local epoch, generation, applied = string.match(stored, shape)
if not epoch then return {'', '', false} end  -- none of ours: purge() puts it right
if tonumber(applied) < tonumber(ARGV[3]) then
  -- Lua prints 15 digits and more in exponent form unless told otherwise.
  local raised = string.format('%.0f', math.max(tonumber(generation) + 1, tonumber(ARGV[2])))
  local token = epoch .. ':' .. raised
  redis.call('SET', KEYS[1], token .. ':' .. ARGV[4], 'PX', ARGV[5])
  redis.call('UNLINK', KEYS[2], KEYS[3])
  return {token, ARGV[4], false}
end
-- Renewed at half time only: a hit stays a read.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[5]) / 2 then
  for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
end
return {epoch .. ':' .. generation, applied, redis.call('GET', KEYS[2])}
