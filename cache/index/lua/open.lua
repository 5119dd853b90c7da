-- The token of a source, made on first sight, and what is stored under it.
-- KEYS  1 generation  2 record  3 members  4 failures  5 spellings
-- ARGV  1 token to begin with  2 now in milliseconds  3 barrier  4 head
--       5 milliseconds to keep a source that nobody asks for
--       6 newest order known not to concern the source, or to have been applied
--       7 how far behind that it may be
-- Result {token, newest order applied, record or nil, {digest, failure, ...}, renewed}
--   renewed: 0 not now, 1 kept for another while, 2 likewise and it has spellings
local shape = '^(' .. string.rep('[0-9a-f]', 16) .. '):(%d+):(%d+)$'
local stored = redis.call('GET', KEYS[1])
if not stored then
  -- What is stored under a token that is forgotten describes nothing any more. Spellings are of no
  -- token: what was handed out stays handed out.
  redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
  redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[4], 'PX', ARGV[5])
  return {ARGV[1], ARGV[4], false, {}, 0}
end
local epoch, generation, applied = string.match(stored, shape)
if not epoch then return {'', '', false, {}, 0} end  -- none of ours: purge() puts it right
if tonumber(applied) < tonumber(ARGV[3]) then
  -- Lua prints 15 digits and more in exponent form unless told otherwise.
  local raised = math.max(tonumber(generation) + 1, tonumber(ARGV[2]))
  raised = string.format('%.0f', raised + 1 - raised % 2)  -- odd: purged since the epoch began
  local token = epoch .. ':' .. raised
  redis.call('SET', KEYS[1], token .. ':' .. ARGV[4], 'PX', ARGV[5])
  redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
  return {token, ARGV[4], false, {}, 0}
end
if tonumber(ARGV[6]) - tonumber(applied) > tonumber(ARGV[7]) then
  applied = ARGV[6]
  redis.call('SET', KEYS[1], epoch .. ':' .. generation .. ':' .. applied, 'KEEPTTL')
end
-- Renewed at half time only: a hit stays a read.
local renewed = 0
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[5]) / 2 then
  for _, i in ipairs({1, 2, 3, 5}) do redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
  renewed = 1 + redis.call('EXISTS', KEYS[5])
end
local failures = redis.call('HGETALL', KEYS[4])
return {epoch .. ':' .. generation, applied, redis.call('GET', KEYS[2]), failures, renewed}
