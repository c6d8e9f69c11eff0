"""The one script behind every rate limit: `routing.engine.rates.Bucket` in Redis.

One hash for each limit: how many units it is by (`most`), when it will be full, when it was made,
and a row for each worker (`holds until seq most`). Times are microseconds of Redis' own clock; as
text, for Lua would round them.
"""

REDIS_CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

# KEYS: the limit's hash. ARGV: worker, seq, holds, back, extra, least, wanted, ahead, ttl, born,
# owed, most, period, burst, workers, and whom to wake of what.
# Returns: units, left, owed, wait, held by others, born.
ASK = """
local key, me, seq = KEYS[1], 'w:' .. ARGV[1], tonumber(ARGV[2])
local holds, back, extra = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local least, wanted, ahead = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local ttl, known, owed = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local most, period, burst = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local workers = tonumber(ARGV[15])

-- Beyond 2^53 a product is rounded: one microsecond more, so that it is never too little.
local function cost(n)
  local product = n * period
  return math.ceil(product / most) + (product >= 9007199254740992 and 1 or 0)
end
local function credit(n)
  local product = n * period
  return math.floor(product / most) - (product >= 9007199254740992 and 1 or 0)
end
local function text(n) return string.format('%.0f', n) end

local full, born, was, mine, others = nil, nil, nil, nil, 0
local raw = redis.call('HGETALL', key)
for i = 1, #raw, 2 do
  if raw[i] == 'full' then
    full = tonumber(raw[i + 1])
  elseif raw[i] == 'born' then
    born = tonumber(raw[i + 1])
  elseif raw[i] == 'most' then
    was = tonumber(raw[i + 1])
  else
    local h, u, s, m = raw[i + 1]:match('^(%S+) (%S+) (%S+) ?(%S*)$')
    if tonumber(u) <= now then
      redis.call('HDEL', key, raw[i])
    elseif raw[i] == me then
      mine = {tonumber(h), tonumber(s), tonumber(m)}
    else
      others = others + tonumber(h)
    end
  end
end
if not born then born, full = now, now end

-- While a new policy spreads, others may still speak of the limit that was.
local told, again = most, mine and seq <= mine[2]
local anew = was and was ~= most and not again and (not mine or mine[3] ~= most)
if was and was ~= most and not anew then
  most, burst = was, math.max(math.floor(burst * was / most), 1)
end

local held = mine and mine[1] or 0
local function left()
  if period == 0 then return most - others - held end
  local room = cost(burst) - (full - now)
  local units = math.floor(room * most / period)
  while units > 0 and cost(units) > room do units = units - 1 end
  return units
end
local function fill() full = math.max(full, now + cost(others + held)) end

if again then
  return {0, left(), math.max(full - now, 0), 0, others, born}
end
if known ~= 0 and known ~= born then full = math.max(full, now + owed) end
if anew then
  local missing = math.max(full - now, 0)
  full = now + math.min(math.ceil(missing * was / most), math.max(missing, period))
end
fill()
full = full + cost(extra) - credit(math.min(back, math.max(held - holds, 0)))
held = holds
fill()

local units, free = 0, math.max(left(), 0)
if free >= least then
  units = math.min(wanted, free)
  if units == wanted then
    units = units + math.min(ahead, math.floor((free - units) / (2 * workers)))
  end
end
full = full + cost(units)
held = held + units

local wait = 0
if units == 0 and wanted > 0 and period > 0 then
  wait = math.max(cost(math.max(least, 1)) - (cost(burst) - (full - now)), 0)
end
redis.call('HSET', key, 'full', text(full), 'born', text(born), 'most', text(most),
  me, text(held) .. ' ' .. text(now + ttl) .. ' ' .. text(seq) .. ' ' .. text(told))
redis.call('PEXPIRE', key, math.ceil(math.max(full - now, 0) / 1000) + math.ceil(ttl / 1000) + 1000)
if units < wanted and others > 0 then redis.call('PUBLISH', ARGV[16], ARGV[17]) end
return {units, left(), math.max(full - now, 0), wait, others, born}
"""

# KEYS: the set of workers that heed limits. ARGV: worker, when one is forgotten (ms).
# Returns how many there are.
BEAT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
return redis.call('ZCARD', KEYS[1])
"""
