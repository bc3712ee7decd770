-- KEYS: of each ask. ARGV: a line for each ask, with its kind and its numbers in the order of its class; and for tests
-- the time in microseconds. Returns a line for each ask, with the numbers of its answer, or "!" and an error.

local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * MILLION + time[2]
end

local function exchange(key, rule, ask)
  local state = open_state(key, now, ask.by_us)
  local answer = rule[2](state, ask, state.at)
  save(state)
  answer[#answer + 1] = state.at
  return answer
end

local answers = {}
for kind, asked in string.gmatch(ARGV[1], '(%S+) ([^\n]+)') do
  local rule, i = RULES[kind], #answers + 1
  local fine, found = pcall(exchange, KEYS[i], rule, named(rule[1], from_text(asked)))
  if fine then
    for n = 1, #found do found[n] = string.format('%.0f', found[n]) end
    answers[i] = table.concat(found, ' ')
  else
    local why = type(found) == 'table' and found.err or tostring(found)
    answers[i] = '!' .. string.gsub(why, '\n', ' ')
  end
end
return table.concat(answers, '\n')
