-- KEYS: of each ask. ARGV: of each ask, its kind and its numbers, separated by blanks, in the order of its class; and
-- last, for tests, the time in microseconds. Returns for each ask the numbers of its answer, or "!" and an error.

local now = tonumber(ARGV[#KEYS + 1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * MILLION + time[2]
end
local answers = {}
for i = 1, #KEYS do
  local kind, asked = string.match(ARGV[i], '^(%S+) (.*)$')
  local rule = RULES[kind]
  local fine, found = pcall(rule[2], KEYS[i], named(rule[1], from_text(asked)), now)
  if fine then
    for n = 1, #found do found[n] = string.format('%.0f', found[n]) end
    answers[i] = table.concat(found, ' ')
  else
    answers[i] = '!' .. (type(found) == 'table' and found.err or tostring(found))
  end
end
return answers
