"""The one script that shares an endpoint's places out among the workers.

One hash for each endpoint: a field for each worker (held, wants, last beat, and since which turn
it waits for its first place), and the limit with what its adaptation needs.
"""

# ARGV: worker, keeps (what it may be using), wants, vote, fixed limit or 0, first limit, time to
# live in ms, give way (1: its turn is over), then the figures of `routing.engine.concurrency`:
# least, most, cut, double every, add every, cut every, calm after (ms), growth when calm, and
# whom to wake of what.
# Returns: held, limit (as text: Redis cuts fractions), workers that want any, hungry others (1 at
# least while more is held than the limit: it was cut, and everybody keeps to a fair share until the
# calls under way are done), and 1 from the first complaint on.
SHARE_OUT = """
local key, me = KEYS[1], 'w:' .. ARGV[1]
local keep, want, vote = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local fixed, first, ttl = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local give_way = ARGV[8] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local rows, limit, settled, changed, cut, turn = {}, first, 0, 0, 0, 0
local raw = redis.call('HGETALL', key)
for i = 1, #raw, 2 do
  if raw[i] == 'ceiling' then
    limit, settled, changed, cut, turn = unpack(cjson.decode(raw[i + 1]))
  else
    local row = cjson.decode(raw[i + 1])
    if row[3] + ttl < now then redis.call('HDEL', key, raw[i]) else rows[raw[i]] = row end
  end
end

if fixed > 0 then
  limit = fixed
elseif vote < 0 and now - cut >= tonumber(ARGV[14]) then
  limit = math.max(tonumber(ARGV[9]), limit * tonumber(ARGV[11]))
  settled, changed, cut = 1, now, now
elseif vote > 0 and now - changed >= tonumber(settled == 1 and ARGV[13] or ARGV[12]) then
  local raised = limit * 2
  if settled == 1 then
    raised = limit + 1
    if now - cut >= tonumber(ARGV[15]) then
      raised = math.max(raised, limit * tonumber(ARGV[16]))
    end
  end
  limit = math.min(tonumber(ARGV[10]), raised)
  changed = now
end
turn = turn + 1
redis.call('HSET', key, 'ceiling', cjson.encode({limit, settled, changed, cut, turn}))
local whole = math.floor(limit)

local mine = rows[me] or {0, 0, now, 0}
local held, asked = mine[1], mine[4]
rows[me] = nil
local active = want > 0 and 1 or 0
for _, row in pairs(rows) do if row[2] > 0 then active = active + 1 end end
local fair = math.floor(whole / math.max(active, 1))
if want > held and held == 0 and asked == 0 then asked = turn end

local others, reserved, hungry, ahead = 0, 0, 0, 0
for name, row in pairs(rows) do
  local due = math.min(row[2], math.max(fair, 1))
  others = others + row[1]
  reserved = reserved + math.max(row[1], math.min(row[2], fair))
  if row[1] < due then
    hungry = hungry + 1
    if row[1] == 0 and row[4] < asked then ahead = ahead + 1 end
  end
end

local goal
if fair > 0 then
  goal = math.min(want, whole - reserved)
elseif held > 0 then
  goal = (hungry > 0 and give_way) and 0 or math.min(want, held)
else
  goal = ahead < whole - others and math.min(want, 1) or 0
end
local left = math.max(whole - others, 0)
goal = math.max(math.min(goal, left), math.min(keep, math.max(held, left)), 0)

local newly = mine[4] == 0 and asked > 0
if goal > 0 then asked = 0 elseif held > 0 and want > 0 then asked = turn end
if want == 0 and goal == 0 then
  redis.call('HDEL', key, me)
else
  redis.call('HSET', key, me, cjson.encode({goal, want, now, asked}))
end
redis.call('PEXPIRE', key, 3600000)
local short = goal < math.min(want, math.max(fair, 1))
if (short and (newly or goal > held or held == 0)) or (goal < held and hungry > 0) then
  redis.call('PUBLISH', ARGV[17], ARGV[18])
end
if others + goal > whole then hungry = math.max(hungry, 1) end
return {goal, tostring(limit), math.max(active, 1), hungry, settled}
"""
