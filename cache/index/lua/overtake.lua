-- Refuse what is being filled of a source of which nothing is stored: raise its generation.
-- KEYS  1 generation  2 record  3 members  4 failures
-- ARGV  1 epoch to begin with  2 now in milliseconds  3 milliseconds to keep the token
-- Result the new token; nil where something may be stored, and then nothing is changed
-- Also of a source that nobody has opened: there may be files of another epoch, which stand in for
-- what is lost as long as the source was not purged in this one.
local stored = redis.call('GET', KEYS[1])
if stored and redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[4]) > 0 then return false end
local shape = '^(' .. string.rep('[0-9a-f]', 16) .. '):(%d+):(%d+)$'
local epoch, generation, applied = string.match(stored or ARGV[1] .. ':0:0', shape)
if not epoch then return false end  -- none of ours: purge() puts it right
local raised = math.max(tonumber(generation) + 1, tonumber(ARGV[2]))
-- Odd: raised since the epoch began. Lua prints 15 digits and more in exponent form unless told
-- otherwise.
local token = epoch .. ':' .. string.format('%.0f', raised + 1 - raised % 2)
if not stored then redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4]) end
redis.call('SET', KEYS[1], token .. ':' .. applied, 'PX', ARGV[3])
return token
