-- One atomic step over the counters of one team. See docs/decisions/ledger.md.
--
-- KEYS: 1 open leases (sorted set, score = end in ms), 2 this request's lease, 3 charges whose journal
--   row is not known to be kept (sorted set, score = when to tell a caller, in ms), 4.. counters. All
--   share one hash tag, so one node of a cluster has them; keys found through a lease (its counters,
--   expired leases) share it too.
-- ARGV: 1 operation, 2 now in ms or '' for the server's own clock, 3 request id, 4.. as each
--   operation says.
--
-- A counter is 'start spent held': the window's first second and two integers. Counters of past
-- windows are overwritten in place. Numbers are doubles, exact up to 2^53; caps stay below it.
-- A lease is packed {state, completion tokens, nusd, tokens, length in ms, (counter, start)...}; its state is o(pen), x (expired: charged, can be corrected) or s(ettled). What nobody may forget has no
-- time to live: totals, open leases, and charges without a journal row.

local MS = 1000
local DAY = 86400
local SLACK = 60 -- after the end of a window
local CORRECTION = DAY -- an expired lease can be corrected
local DUPLICATE = 60 -- an ended request id is recognised
local CONVERSATION_IDLE = 30 * DAY -- conversations have no end, and there are too many of them
local REAP = 50 -- expired leases charged per call, and charges without a row returned by it
local RETURN_AGAIN = 30 * MS -- in case the gateway that got a charge to journal has died

local operation, request = ARGV[1], ARGV[3]
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * MS + math.floor(time[2] / MS)
end
local second = math.floor(now / MS)
local base = string.sub(KEYS[1], 1, -7) -- without 'leases'

local function text(number)
  return string.format('%.0f', number)
end

-- Days since 1970-01-01 of the first of a month (Howard Hinnant, days_from_civil).
local function first_of_month(year, month)
  if month > 12 then year, month = year + 1, month - 12 end
  local y = month <= 2 and year - 1 or year
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local doy = math.floor((153 * ((month + 9) % 12) + 2) / 5)
  return era * 146097 + yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy - 719468
end

local function month_bounds(at)
  local z = math.floor(at / DAY) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor(
    (doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local month = (math.floor((5 * doy + 2) / 153) + 2) % 12 + 1
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return first_of_month(year, month) * DAY, first_of_month(year, month + 1) * DAY
end

local LENGTHS = {minute = 60, hour = 3600, day = DAY}

local function bounds(window, at)
  local length = LENGTHS[window]
  if length then
    local start = at - at % length
    return start, start + length
  end
  if window == 'week' then
    local start = at - (at - 4 * DAY) % (7 * DAY)
    return start, start + 7 * DAY
  end
  if window == 'month' then return month_bounds(at) end
  return 0, nil
end

-- A clock that is set back into the window before does not reopen that one: the later start stays.
-- A window that begins later still was counted while the clock was wrong, and is no debt.
local function open_counter(key, value)
  local measure, window = string.match(key, '^c:(%a+):(%a+):', #base + 1)
  local counter = {key = key, measure = measure, spent = 0, held = 0}
  counter.start, counter.stop = bounds(window, second)
  if value then
    local start, spent, held = string.match(value, '^(%-?%d+) (%d+) (%d+)$')
    start = tonumber(start)
    if start >= counter.start and start <= (counter.stop or start) then
      counter.spent, counter.held = tonumber(spent), tonumber(held)
      if start > counter.start then counter.start, counter.stop = bounds(window, start) end
    end
  end
  return counter
end

local function load(keys)
  local counters = {}
  if #keys == 0 then return counters end
  local values = redis.call('MGET', unpack(keys))
  for i, key in ipairs(keys) do counters[i] = open_counter(key, values[i]) end
  return counters
end

local function save(counter)
  local value = text(counter.start) .. ' ' .. text(counter.spent) .. ' ' .. text(counter.held)
  if counter.stop then
    redis.call('SET', counter.key, value, 'EX', text(counter.stop - second + SLACK))
  elseif string.match(counter.key, '^c:output:total:conversation:', #base + 1) then
    redis.call('SET', counter.key, value, 'EX', CONVERSATION_IDLE)
  elseif counter.spent == 0 and counter.held == 0 then
    redis.call('DEL', counter.key)
  else
    redis.call('SET', counter.key, value)
  end
end

local function used(measure, nusd, tokens, output)
  if measure == 'nusd' then return nusd end
  if measure == 'tokens' then return tokens end
  if measure == 'output' then return output end
  return 0
end

local function held(measure, nusd, tokens, output)
  if measure == 'concurrent' then return 1 end
  return used(measure, nusd, tokens, output)
end

local function lease_key(id)
  return base .. 'l:' .. id
end

-- Put what was used where it was held; where that was charged already, correct it.
local function charge(lease, nusd, tokens, output)
  local keys, starts = {}, {}
  for i = 6, #lease, 2 do
    keys[#keys + 1] = base .. lease[i]
    starts[#starts + 1] = lease[i + 1]
  end
  for i, counter in ipairs(load(keys)) do
    if counter.start == starts[i] then
      local measure = counter.measure
      local amount = used(measure, nusd, tokens, output)
      if lease[1] == 'o' then
        counter.held = math.max(counter.held - held(measure, lease[3], lease[4], lease[2]), 0)
      else
        amount = amount - used(measure, lease[3], lease[4], lease[2])
      end
      counter.spent = math.max(counter.spent + amount, 0)
      save(counter)
    end
  end
end

-- The charge of a lease as it waits for its journal row.
local function unjournaled(id, state, nusd, tokens, output)
  return table.concat({id, state, text(nusd), text(tokens), text(output)}, ' ')
end

-- Charge in full the leases that nobody renewed or settled in time.
local function reap()
  local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, REAP)
  for _, id in ipairs(due) do
    redis.call('ZREM', KEYS[1], id)
    local packed = redis.call('GET', lease_key(id))
    local lease = packed and cmsgpack.unpack(packed)
    if lease and lease[1] == 'o' then
      charge(lease, lease[3], lease[4], lease[2])
      lease[1] = 'x'
      redis.call('SET', lease_key(id), cmsgpack.pack(lease), 'EX', CORRECTION)
      redis.call('ZADD', KEYS[3], text(now), unjournaled(id, 'x', lease[3], lease[4], lease[2]))
    end
  end
end

-- Each notice goes to one caller, who writes the journal row and acknowledges it; to the next one
-- where that does not happen.
local function notices()
  local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', text(now), 'LIMIT', 0, REAP)
  for _, member in ipairs(due) do redis.call('ZADD', KEYS[3], text(now + RETURN_AGAIN), member) end
  return due
end

local function standings(counters)
  local flat = {}
  for _, counter in ipairs(counters) do
    flat[#flat + 1] = counter.spent
    flat[#flat + 1] = counter.held
    flat[#flat + 1] = counter.stop and counter.stop * MS - now or -1
  end
  return flat
end

local function counter_keys()
  local keys = {}
  for i = 4, #KEYS do keys[#keys + 1] = KEYS[i] end
  return keys
end

-- Price tokens in parts, so that every product stays below 2^53.
local function cost(tokens, price)
  local whole = math.floor(price / 1000000)
  return tokens * whole + math.ceil(tokens * (price % 1000000) / 1000000)
end

local function affordable(room, price, most)
  if room < 0 then return -1 end
  if cost(most, price) <= room then return most end
  local tokens = math.min(math.floor(room / price * 1000000), most)
  while tokens > 0 and cost(tokens, price) > room do tokens = tokens - 1 end
  while tokens < most and cost(tokens + 1, price) <= room do tokens = tokens + 1 end
  return tokens
end

-- Completion tokens that every limit affords; negative where one does not even afford none.
local function grant(counters, fixed_nusd, fixed_tokens)
  local price, completion = tonumber(ARGV[7]), tonumber(ARGV[9])
  for i, counter in ipairs(counters) do
    local room = tonumber(ARGV[9 + i]) - counter.spent - counter.held
    if counter.measure == 'nusd' then
      completion = math.min(completion, affordable(room - fixed_nusd, price, completion))
    elseif counter.measure == 'tokens' then
      completion = math.min(completion, room - fixed_tokens)
    elseif counter.measure == 'output' then
      completion = math.min(completion, room)
    elseif room < 1 then
      completion = -1
    end
    if completion < 0 then return -1 end
  end
  return completion
end

local operations = {}

-- ARGV: 4 lease in ms, 5 fixed nusd, 6 fixed tokens, 7 price, 8 least, 9 most, 10.. caps.
function operations.reserve()
  reap()
  local counters = load(counter_keys())
  local existing = redis.call('GET', KEYS[2])
  if existing then
    local lease = cmsgpack.unpack(existing)
    if lease[1] ~= 'o' then return {'ended', 0, 0, 0, -1, {}, {}} end
    return {'granted', lease[2], lease[3], lease[4], -1, standings(counters), notices()}
  end
  local fixed_nusd, fixed_tokens = tonumber(ARGV[5]), tonumber(ARGV[6])
  local completion = grant(counters, fixed_nusd, fixed_tokens)
  if completion < tonumber(ARGV[8]) then
    local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
    local wait = first[2] and tonumber(first[2]) - now or -1
    return {'refused', 0, 0, 0, wait, standings(counters), notices()}
  end
  local nusd = fixed_nusd + cost(completion, tonumber(ARGV[7]))
  local tokens = fixed_tokens + completion
  local length = tonumber(ARGV[4])
  local lease, seen = {'o', completion, nusd, tokens, length}, {}
  for i, counter in ipairs(counters) do
    if seen[counter.key] then
      counters[i] = seen[counter.key]
    else
      seen[counter.key] = counter
      counter.held = counter.held + held(counter.measure, nusd, tokens, completion)
      if counter.measure == 'requests' then counter.spent = counter.spent + 1 end
      save(counter)
      lease[#lease + 1] = string.sub(counter.key, #base + 1)
      lease[#lease + 1] = counter.start
    end
  end
  redis.call('ZADD', KEYS[1], text(now + length), request)
  redis.call('SET', KEYS[2], cmsgpack.pack(lease))
  return {'granted', completion, nusd, tokens, -1, standings(counters), notices()}
end

-- ARGV: 4 lease in ms.
function operations.renew()
  local ends = redis.call('ZSCORE', KEYS[1], request)
  if not ends or tonumber(ends) <= now then return 0 end
  redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[4])), request)
  return 1
end

-- The journal has as long as a lease lasts to get the row; then a call returns the charge, and
-- the gateway that made the call writes the row.
-- ARGV: 4 nusd, 5 tokens, 6 completion tokens of these.
function operations.settle()
  local packed = redis.call('GET', KEYS[2])
  local lease = packed and cmsgpack.unpack(packed)
  if not lease or lease[1] == 's' then
    reap()
    return 0
  end
  local nusd, tokens, output = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
  if lease[1] == 'o' then
    redis.call('ZREM', KEYS[1], request)
  else
    redis.call('ZREM', KEYS[3], unjournaled(request, 'x', lease[3], lease[4], lease[2]))
  end
  local charged = unjournaled(request, 's', nusd, tokens, output)
  redis.call('ZADD', KEYS[3], text(now + lease[5]), charged)
  charge(lease, nusd, tokens, output)
  redis.call('SET', KEYS[2], cmsgpack.pack({'s'}), 'EX', DUPLICATE)
  reap()
  return 1
end

-- Give back what a reservation held whose answer never reached the gateway, so that nobody pays
-- for a call that was not made. One that has yet to arrive will find that it has ended.
function operations.abandon()
  local packed = redis.call('GET', KEYS[2])
  if not packed then
    redis.call('SET', KEYS[2], cmsgpack.pack({'s'}), 'EX', DUPLICATE)
    return 0
  end
  local lease = cmsgpack.unpack(packed)
  if lease[1] ~= 'o' then return 0 end
  redis.call('ZREM', KEYS[1], request)
  charge(lease, 0, 0, 0)
  lease[1], lease[2], lease[3], lease[4] = 'x', 0, 0, 0
  redis.call('SET', KEYS[2], cmsgpack.pack(lease), 'EX', CORRECTION)
  redis.call('ZADD', KEYS[3], text(now + lease[5]), unjournaled(request, 'x', 0, 0, 0))
  return 1
end

-- ARGV: 4.. charges whose journal rows are kept.
function operations.acknowledge()
  return redis.call('ZREM', KEYS[3], unpack(ARGV, 4))
end

function operations.standings()
  reap()
  return standings(load(counter_keys()))
end

-- ARGV: 4 spent.
function operations.overwrite()
  local counter = load(counter_keys())[1]
  counter.spent = tonumber(ARGV[4])
  save(counter)
  return 1
end

function operations.reap()
  reap()
  return notices()
end

return operations[operation]()
