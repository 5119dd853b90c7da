-- How a flight stands, for one that waits for it.
-- KEYS  1 lease (see lease.lua)  2 parcel
-- ARGV  none
-- Result {1 while somebody leads or 0, parcel or nil}
local held = redis.call('GET', KEYS[1])
-- The leader may have changed since the caller asked for the lease.
if held and string.sub(held, 1, 1) == '0' then
  redis.call('SET', KEYS[1], '1' .. string.sub(held, 2), 'KEEPTTL')
end
return {held and 1 or 0, redis.call('GET', KEYS[2])}
