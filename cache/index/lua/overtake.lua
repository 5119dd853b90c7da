-- Refuse what is being filled of a source of which nothing is stored: raise its generation.
-- KEYS  1 generation  2 record  3 members  4 failures
-- ARGV  1 now in milliseconds  2 milliseconds to keep the token
-- Result the new token; '' where nobody has opened the source; nil where something may be stored,
-- and then nothing is changed
local stored = redis.call('GET', KEYS[1])
if not stored then return '' end
if redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[4]) > 0 then return false end
local shape = '^(' .. string.rep('[0-9a-f]', 16) .. '):(%d+):(%d+)$'
local epoch, generation, applied = string.match(stored, shape)
if not epoch then return false end  -- none of ours: purge() puts it right
local raised = math.max(tonumber(generation) + 1, tonumber(ARGV[1]))
-- Odd: raised since the epoch began. Lua prints 15 digits and more in exponent form unless told
-- otherwise.
local token = epoch .. ':' .. string.format('%.0f', raised + 1 - raised % 2)
redis.call('SET', KEYS[1], token .. ':' .. applied, 'PX', ARGV[2])
return token
