-- Raise the generation; drop what is stored under it in the same step.
-- KEYS  1 generation  2 record  3 members  4 failures
-- ARGV  1 epoch to begin with  2 now in milliseconds  3 milliseconds to keep the token
-- Result {new token, digests, replicas that are connected}
local info = redis.pcall('INFO', 'replication')
local replicas = type(info) == 'string' and string.match(info, 'connected_slaves:(%d+)')
-- A value that is no token of ours is as good as none.
local shape = '^(' .. string.rep('[0-9a-f]', 16) .. '):(%d+):(%d+)$'
local epoch, generation, applied = string.match(redis.call('GET', KEYS[1]) or '', shape)
local raised = math.max((tonumber(generation) or 0) + 1, tonumber(ARGV[2]))
raised = raised + 1 - raised % 2  -- odd: purged since the epoch began
-- Lua prints 15 digits and more in exponent form unless told otherwise.
local token = (epoch or ARGV[1]) .. ':' .. string.format('%.0f', raised)
redis.call('SET', KEYS[1], token .. ':' .. (applied or '0'), 'PX', ARGV[3])
local digests = redis.call('HKEYS', KEYS[3])
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
return {token, digests, tonumber(replicas or 0)}
