-- Sends one message list per request, read in a circle from a file; prints one line of results.
local head, tail = os.getenv("BODY_HEAD"), os.getenv("BODY_TAIL")
local position = tonumber(os.getenv("BODY_START"))
local step = tonumber(os.getenv("BODY_STEP"))
local lines = {}

function init(args)
  for line in io.lines(os.getenv("BODY_FILE")) do
    lines[#lines + 1] = line
  end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  for name, value in string.gmatch(os.getenv("HEADERS"), "([^\n:]+): ([^\n]+)") do
    wrk.headers[name] = value
  end
end

function request()
  local body = head .. lines[position % #lines + 1] .. tail
  position = position + step
  return wrk.format(nil, nil, nil, body)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    "RESULT %d %d %d %d %d %d %d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write, errors.timeout
  ))
end
