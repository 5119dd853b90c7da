-- Store a source's record if the token is current.
-- KEYS  1 generation  2 record
-- ARGV  1 token read before the fill  2 record  3 milliseconds to keep it
-- Result 1 stored, 0 the token is old
-- Tokens are compared as text: Lua's numbers would lose digits. A missing token equals none.
local stored = redis.call('GET', KEYS[1])
if not stored or string.match(stored, '^(.*):') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
