-- The rules of the store for Valkey and Redis: each .lua file is the twin of the .py file beside it, equal to the bit.
--
-- The state is a hash: a row of numbers for the policy (field "") and for each asker (its id), as "%.17g". A rule reads
-- rows, and notes what is to change; all of it is written at its end, and before anything is deleted. A server without
-- memory lets a script write once it has deleted something: then it would take one exchange and not the next.

local floor, ceil, sqrt, min, max = math.floor, math.ceil, math.sqrt, math.min, math.max
local SECOND, MILLION, LATE_US = 1000000, 1000000, 100000
local RULES = {}       -- of a kind: the names of an ask's numbers, and the function

local function from_text(text)
  local row = {}
  for number in string.gmatch(text, '[^%s,()]+') do row[#row + 1] = tonumber(number) end
  return row
end

local function text_of(row)
  local texts = {}
  for i = 1, #row do texts[i] = string.format('%.17g', row[i]) end
  return table.concat(texts, ' ')
end

-- A row by names, and back.
local function named(names, row)
  local found = {}
  for i = 1, #names do found[names[i]] = row[i] end
  return found
end

local function numbers(names, found)
  local row = {}
  for i = 1, #names do row[i] = found[names[i]] end
  return row
end

-- The field of an asker.
local function field_of(asker) return string.format('%.0f', asker) end

-- The state of a key, with what a rule notes in it: `put` a row in `field`, fields that are `gone`, and `keeps_us`.
-- Its time goes on when the server's clock is set back, and goes ahead no further than the asker reckons (by).
local function open_state(key, now, by)
  local text = redis.call('HGET', key, '')
  local head, at = text and from_text(text), now
  if head then
    local ahead, last = table.remove(head), table.remove(head)
    at = ahead + max(now, last)
    if by > 0 then at = min(at, max(by + LATE_US, last + ahead)) end
  end
  return {key = key, head = head or nil, now = now, at = at, gone = {}, dropped = 0}
end

-- One row of a state, or nil.
local function load(state, field)
  local text = not state.gone[field] and redis.call('HGET', state.key, field)
  return text and from_text(text) or nil
end

-- All rows but the policy's, as a list of {field, row}.
local function others(state)
  if not state.all then
    local all = redis.call('HGETALL', state.key)
    state.all = {}
    for i = 1, #all, 2 do
      if all[i] ~= '' then state.all[#state.all + 1] = {all[i], from_text(all[i + 1])} end
    end
  end
  local found = {}
  for _, other in ipairs(state.all) do
    if not state.gone[other[1]] then found[#found + 1] = other end
  end
  return found
end

-- How many there are.
local function askers(state)
  return redis.call('HLEN', state.key) - (state.head and 1 or 0) - state.dropped
end

local function drop(state, field)
  state.gone[field], state.dropped = true, state.dropped + 1
end

-- Note the policy's row and the asker's, and how long the state is kept.
local function store(state, head, field, row, keeps_us)
  state.head, state.field, state.put, state.keeps_us = head, field, row, keeps_us
end

local function save(state)
  local head = text_of(state.head) .. ' ' .. text_of({state.now, state.at - state.now})
  if state.put then
    redis.call('HSET', state.key, '', head, state.field, text_of(state.put))
  else
    redis.call('HSET', state.key, '', head)
  end
  for field in pairs(state.gone) do
    if field ~= state.field then redis.call('HDEL', state.key, field) end
  end
  if state.keeps_us then redis.call('PEXPIRE', state.key, ceil(state.keeps_us / 1000)) end
end
