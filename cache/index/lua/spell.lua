-- Add URLs of a source.
-- KEYS  1 list of URLs, oldest first
-- ARGV  1 most of them  2 milliseconds to keep them  3... URLs
-- Result how many did not fit
local refused = 0
for i = 3, #ARGV do
  -- A list, because it is a third of a set's size; it is searched a few times in a source's life.
  if not redis.call('LPOS', KEYS[1], ARGV[i]) then
    if redis.call('LLEN', KEYS[1]) < tonumber(ARGV[1]) then
      redis.call('RPUSH', KEYS[1], ARGV[i])
    else
      refused = refused + 1
    end
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return refused
