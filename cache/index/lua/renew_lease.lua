-- Lead for longer.
-- KEYS  1 lease (see lease.lua)
-- ARGV  1 owner  2 milliseconds from now
-- Result 1 done, 0 it was lost
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 2) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
