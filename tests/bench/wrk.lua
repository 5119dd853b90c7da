-- What wrk sends, and what it reports.
--
-- wrk [options] URL                          wrk's own bare head, prepared once
-- wrk [options] URL -- FILE cycle            the requests of FILE (each ended by a NUL), in order
-- wrk [options] URL -- FILE random SEED      the same, drawn with replacement
--
-- A request is a string that exists before the run begins: handing it over is an index, so the
-- generator stays cheaper than the servers it measures.

function init(args)
  if #args == 0 then
    return -- no global "request": wrk then sends one fixed head
  end
  local file = assert(io.open(args[1], "rb"))
  local pool = {}
  for head in file:read("*a"):gmatch("%Z+") do
    pool[#pool + 1] = head
  end
  file:close()
  local count = #pool
  assert(count > 0, "no requests in " .. args[1])
  if args[2] == "random" then
    local random = math.random
    math.randomseed(tonumber(args[3]))
    request = function()
      return pool[random(count)]
    end
  else
    local i = 0
    request = function()
      i = i % count + 1
      return pool[i]
    end
  end
end

-- One line for the harness: wrk's own text rounds, and stops at p99.
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '=report {"requests":%.0f,"bytes":%.0f,"duration_us":%.0f,' ..
    '"connect":%.0f,"read":%.0f,"write":%.0f,"status":%.0f,"timeout":%.0f,' ..
    '"p50_us":%.0f,"p99_us":%.0f,"p999_us":%.0f}\n',
    summary.requests, summary.bytes, summary.duration,
    e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
