-- The rules of the store for Valkey and Redis: each .lua file is the twin of the .py file beside it, equal to the bit.
--
-- The state is a hash: a row of numbers for the policy (field "") and for each asker (its id), as "%.17g".

local floor, ceil, sqrt, min, max = math.floor, math.ceil, math.sqrt, math.min, math.max
local SECOND, MILLION = 1000000, 1000000
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

-- One row of a state, or nil.
local function load(key, field)
  local text = redis.call('HGET', key, field)
  return text and from_text(text) or nil
end

-- All rows but the policy's, as a list of {field, row}.
local function others(key)
  local all, found = redis.call('HGETALL', key), {}
  for i = 1, #all, 2 do
    if all[i] ~= '' then found[#found + 1] = {all[i], from_text(all[i + 1])} end
  end
  return found
end

-- Write the policy's row and the asker's, and keep the state for so long.
local function store(key, head, field, row, keeps_us)
  redis.call('HSET', key, '', text_of(head), field, text_of(row))
  redis.call('PEXPIRE', key, ceil(keeps_us / 1000))
end
