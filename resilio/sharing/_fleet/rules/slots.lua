do
  local ASK = {'asker', 'seq', 'seen', 'by_us', 'capacity', 'kept', 'want', 'sure', 'ends_us', 'ttl_us'}
  local SEQ, HELD, WANT, ENDS = 1, 2, 3, 4

  -- The rows that have not lapsed, by their fields.
  local function standing(state, now)
    local rows = {}
    for _, other in ipairs(others(state)) do
      local field, row = other[1], other[2]
      if row[ENDS] <= now then drop(state, field) else rows[field] = row end
    end
    return rows
  end

  local function leased(rows)
    local found = 0
    for _, row in pairs(rows) do found = found + row[HELD] end
    return found
  end

  -- The asker's share: all get what they want, or as much as the others that want more.
  local function fair_of(rows, ask)
    local wants = {}
    for field, row in pairs(rows) do wants[#wants + 1] = {row[WANT], tonumber(field)} end
    table.sort(wants, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
    local left = ask.capacity
    for i, one in ipairs(wants) do
      local share = min(one[1], floor(left / (#wants - i + 1)))
      if one[2] == ask.asker then return share end
      left = left - share
    end
    return 0
  end

  -- The slots that other askers do not have.
  local function room_of(rows, ask)
    return ask.capacity - leased(rows) + rows[field_of(ask.asker)][HELD]
  end

  local function answer(rows, ask, held, room)
    local peers = 0
    for _ in pairs(rows) do peers = peers + 1 end
    local fair = min(fair_of(rows, ask), max(room, ask.sure))
    return {ask.seq, held, fair, peers, max(0, ask.capacity - leased(rows)), rows[field_of(ask.asker)][ENDS]}
  end

  local function exchange(state, ask, now)
    local rows = standing(state, now)
    local learns_until = (state.head or {0})[1]
    local field, want = field_of(ask.asker), max(ask.want, ask.kept)
    local before = rows[field]
    if before and ask.seq <= before[SEQ] then return answer(rows, ask, before[HELD], room_of(rows, ask)) end
    if not before and ask.ends_us > now then learns_until = now + ask.ttl_us end
    local row = {ask.seq, 0, want, now + ask.ttl_us}
    rows[field] = row
    local room = now < learns_until and 0 or room_of(rows, ask)
    row[HELD] = max(ask.kept, min(fair_of(rows, ask), room))
    store(state, {learns_until}, field, row, 4 * ask.ttl_us)
    return answer(rows, ask, row[HELD], room)
  end

  RULES.slots = {ASK, exchange}
end
