-- List a path in the catalogues of a site: that of its paths, and those of the path's tags.
-- KEYS  1... sorted sets of paths, all with score 0
-- ARGV  1 path  2 most paths of a catalogue  3 milliseconds to keep a catalogue
-- Result how many catalogues were full
local refused = 0
for _, catalogue in ipairs(KEYS) do
  if redis.call('ZCARD', catalogue) < tonumber(ARGV[2]) then
    redis.call('ZADD', catalogue, 0, ARGV[1])
  elseif not redis.call('ZSCORE', catalogue, ARGV[1]) then
    refused = refused + 1
  end
  redis.call('PEXPIRE', catalogue, ARGV[3])
end
return refused
