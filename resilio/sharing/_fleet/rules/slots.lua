do
  local LARGE_STEP_US = 1000000
  local ASK = {'asker', 'seq', 'seen', 'capacity', 'kept', 'want', 'sure', 'ends_us', 'ttl_us'}
  local SEQ, HELD, WANT, ENDS = 1, 2, 3, 4

  -- Let time pass: the rows that have not lapsed, by their fields, the time, and until when nothing is given.
  local function advance(key, now)
    local head = load(key, '') or {now, 0}
    local at, learns_until, step = head[1], head[2], 0
    if now < at - LARGE_STEP_US then
      step = at - now
      at, learns_until = now, learns_until - step
    end
    at = max(at, now)
    local rows = {}
    for _, other in ipairs(others(key)) do
      local field, row = other[1], other[2]
      row[ENDS] = row[ENDS] - step
      if row[ENDS] <= at then
        redis.call('HDEL', key, field)
      else
        if step > 0 then redis.call('HSET', key, field, text_of(row)) end
        rows[field] = row
      end
    end
    redis.call('HSET', key, '', text_of({at, learns_until}))
    return rows, at, learns_until
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

  local function exchange(key, ask, now)
    local rows, at, learns_until = advance(key, now)
    local field, want = field_of(ask.asker), max(ask.want, ask.kept)
    local before = rows[field]
    if before and ask.seq <= before[SEQ] then return answer(rows, ask, before[HELD], room_of(rows, ask)) end
    if not before and ask.ends_us > at then learns_until = at + ask.ttl_us end
    local row = {ask.seq, 0, want, at + ask.ttl_us}
    rows[field] = row
    local room = at < learns_until and 0 or room_of(rows, ask)
    row[HELD] = max(ask.kept, min(fair_of(rows, ask), room))
    store(key, {at, learns_until}, field, row, 4 * ask.ttl_us)
    return answer(rows, ask, row[HELD], room)
  end

  RULES.slots = {ASK, exchange}
end
