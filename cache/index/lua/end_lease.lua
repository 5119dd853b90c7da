-- Give a lease back.
-- KEYS  1 lease (see lease.lua)
-- ARGV  1 owner
-- Result 1 somebody waits, 0 nobody does, or it was not the owner's any more
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 2) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return tonumber(string.sub(held, 1, 1))
