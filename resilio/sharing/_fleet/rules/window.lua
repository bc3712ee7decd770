do
  local PARTS, LATE = 64, 2

  local function oldest_first(one, other) return one[1] < other[1] end

  -- Count tokens as spent at this time.
  local function use(window, at, tokens)
    if tokens <= 0 then return end
    local part = floor(at / window.width)
    for _, one in ipairs(window.used) do
      if one[1] == part then
        one[2] = one[2] + tokens
        return
      end
    end
    window.used[#window.used + 1] = {part, tokens}
    table.sort(window.used, oldest_first)
  end

  local function free_at(window, part) return (part + LATE) * window.width + window.period end

  local function open(head, ask, now)
    local window = {out = 0, swept = now, used = {}, period = ask.period_us, width = ask.period_us / PARTS}
    if head then
      window.out, window.swept = head[1], head[2]
      for i = 3, #head, 2 do window.used[#window.used + 1] = {head[i], head[i + 1]} end
    elseif ask.seen > 0 then
      use(window, now, ask.burst)
    end
    return window
  end

  local function row_of(window)
    local row = {window.out, window.swept}
    for _, one in ipairs(window.used) do row[#row + 1], row[#row + 2] = one[1], one[2] end
    return row
  end

  -- Take the leases that have ended for spent, once a tick, and add up the others anew; true if it was time.
  local function sweep(state, window, ask, now)
    if now < window.swept + ask.tick_us then return false end
    window.swept, window.out = now, 0
    for _, other in ipairs(others(state)) do
      local grant, ends = other[2][2], other[2][3]
      if ends > now then
        window.out = window.out + grant
      else
        use(window, ends, grant)
        drop(state, other[1])
      end
    end
    return true
  end

  local function settle(window, lease, ask, now)
    if lease then
      window.out = window.out - lease[2]
      if lease[1] == ask.seen then use(window, now, lease[2] - max(0, ask.left)) end
    end
    use(window, now, -ask.left)
    local tokens, kept = ask.spare, {}
    for _, one in ipairs(window.used) do
      local found = min(one[2], tokens)
      tokens, one[2] = tokens - found, one[2] - found
      if one[2] > 0 and free_at(window, one[1]) > now then kept[#kept + 1] = one end
    end
    window.used = kept
  end

  local function left_of(window, ask)
    local used = 0
    for _, one in ipairs(window.used) do used = used + one[2] end
    return ask.burst - window.out - used
  end

  local function wait_of(window, ask, now)
    local lacks = ask.least - left_of(window, ask)
    for _, one in ipairs(window.used) do
      lacks = lacks - one[2]
      if lacks <= 0 then return ceil(free_at(window, one[1]) - now) end
    end
    return ask.tick_us
  end

  local function answer(window, ask, grant, peers, now)
    local wait = (ask.least > 0 and grant == 0) and wait_of(window, ask, now) or 0
    return {ask.seq, grant, 0, wait, max(1, peers), left_of(window, ask)}
  end

  local function exchange(state, ask, now)
    local field, window = field_of(ask.asker), open(state.head, ask, now)
    local lease = load(state, field)
    if lease and ask.seq <= lease[1] then
      return answer(window, ask, ask.seq == lease[1] and lease[2] or 0, askers(state), now)
    end
    if sweep(state, window, ask, now) and lease and lease[3] <= now then lease = nil end
    settle(window, lease, ask, now)
    local there, grant, peers = left_of(window, ask), 0, askers(state) + (lease and 0 or 1)
    if there >= max(1, ask.least) then grant = min(ask.want, there) end
    window.out = window.out + grant
    local keeps = max(4 * ask.ttl_us, 2 * ceil(ask.burst / (ask.amount / ask.period_us)))
    store(state, row_of(window), field, {ask.seq, grant, now + ask.ttl_us}, keeps)
    return answer(window, ask, grant, peers, now)
  end

  RULES.window = {RULES.limit[1], exchange}
end
