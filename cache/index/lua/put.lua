-- Store a source's record if the token is current.
-- KEYS  1 generation  2 record
-- ARGV  1 token read before the fill  2 record  3 milliseconds to keep it
--       4 '' or, for news that comes late, when the source was asked in seconds: stored only where
--         nobody has asked since
-- Result 1 stored, 0 the token is old, or somebody has asked since
-- Tokens are compared as text: Lua's numbers would lose digits. A missing token equals none.
local stored = redis.call('GET', KEYS[1])
if not stored or string.match(stored, '^(.*):') ~= ARGV[1] then return 0 end
if ARGV[4] ~= '' then
  local known = redis.call('GET', KEYS[2])
  -- The sixth field of record.py: stored_at. What cannot be read gives way.
  local is_record, fields = pcall(cjson.decode, string.sub(known or '', 2))
  local asked_at = is_record and type(fields) == 'table' and tonumber(fields[6])
  if asked_at and asked_at >= tonumber(ARGV[4]) then return 0 end
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
