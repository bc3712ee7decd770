do
  local CREDITS, HEADROOM, SPARES = 4, 1.1, 2
  local ASK = {
    'asker', 'seq', 'seen', 'by_us', 'amount', 'period_us', 'burst', 'left', 'kept', 'demand', 'want', 'spare', 'least', 'cost',
    'tick_us', 'ttl_us',
  }
  local HEAD = {
    'tokens', 'part', 'at', 'out', 'level', 'bucket', 'demands', 'capped', 'peers', 'wanted', 'swept',
    'credits',
  }
  local LEASE = {'seq', 'grant', 'kept', 'ends', 'bucket', 'credit', 'paid'}

  -- Forget the leases that have ended, once a tick, and add up the others anew; true if it was time.
  local function sweep(state, limit, ask, now)
    if now < limit.swept + ask.tick_us then return false end
    limit.swept, limit.out, limit.credits = now, 0, 0
    for _, other in ipairs(others(state)) do
      local lease = named(LEASE, other[2])
      if lease.ends > now then
        limit.out = limit.out + (lease.grant + lease.kept)
        limit.credits = limit.credits + lease.credit
      else
        limit.tokens = limit.tokens - lease.credit
        drop(state, other[1])
      end
    end
    return true
  end

  local function fill(limit, ask, now)
    local due = (now - limit.at) * (ask.amount / ask.period_us) + limit.part
    limit.tokens = limit.tokens + floor(due)
    limit.part = due - floor(due)
    limit.at = now
  end

  local function give_back(limit, lease, ask)
    local debt = min(ask.left, 0)
    local back = 0
    if lease then
      limit.out = limit.out - (lease.grant + lease.kept)
      limit.credits = limit.credits - lease.credit
      back = ask.left - debt
      if lease.seq ~= ask.seen then back = back + (lease.grant - max(lease.paid, debt)) end
    end
    limit.out = limit.out + ask.kept
    limit.tokens = min(limit.tokens + back, ask.burst - limit.out) + debt
  end

  local function count(state, limit, lease, ask, now, rate)
    local bucket = floor(now / ask.tick_us)
    limit.peers = askers(state) + (lease and 0 or 1)
    if bucket ~= limit.bucket then
      if limit.demands > rate then
        local step = sqrt(rate / max(limit.capped, 1))
        limit.level = max(rate / 10000, min(rate, limit.level * (step * sqrt(step))))
      else
        limit.level = rate
      end
      limit.wanted = limit.demands
      limit.bucket, limit.demands, limit.capped = bucket, 0, 0
    end
    if not lease or lease.bucket ~= bucket then
      limit.demands = limit.demands + ask.demand
      limit.capped = limit.capped + min(ask.demand, limit.level)
    end
  end

  local function grant_of(limit, ask, rate)
    local there, found = max(0, limit.tokens), 0
    if ask.least > 0 then
      found = there < ask.least and 0 or min(ask.want, there)
    else
      local most, is_short = ask.want, limit.wanted > rate
      if is_short then
        local part = ask.tick_us / SECOND
        local saved = max(0, there - rate * part)
        most = max(ask.cost, floor(limit.level * part * HEADROOM + saved / limit.peers))
      end
      found = max(0, min(most, ask.want, there))
      if not is_short then
        local part = min(ask.spare, (there - found) / (SPARES * limit.peers))
        found = found + floor(part / ask.cost) * ask.cost
      end
    end
    limit.tokens = limit.tokens - found
    limit.out = limit.out + found
    return found
  end

  local function credit_of(limit, ask)
    if limit.tokens <= 0 or ask.demand == 0 then return 0 end
    local own = floor(ask.demand * (ask.tick_us / SECOND) / 2) + ask.cost
    local free = max(0, floor(limit.tokens / CREDITS) - limit.credits)
    local found = min(own, floor(limit.tokens / (CREDITS * limit.peers)), free)
    limit.credits = limit.credits + found
    return found
  end

  local function answer(limit, ask, grant, credit)
    local lacks = (ask.least > 0 and grant == 0) and ask.least - limit.tokens or 0
    local wait = ceil(max(0, lacks) / (ask.amount / ask.period_us))
    return {ask.seq, grant, credit, wait, limit.peers, limit.tokens}
  end

  local function exchange(state, ask, now)
    local field, rate = field_of(ask.asker), ask.amount / ask.period_us * SECOND
    local full = ask.seen > 0 and 0 or ask.burst
    local limit = named(HEAD, state.head or {full, 0, now, 0, rate, -1, 0, 0, 1, 0, now, 0})
    local row = load(state, field)
    local lease = row and named(LEASE, row)
    if lease and ask.seq <= lease.seq then
      return answer(limit, ask, ask.seq == lease.seq and lease.grant or 0, 0)
    end
    if sweep(state, limit, ask, now) and lease and lease.ends <= now then lease = nil end
    fill(limit, ask, now)
    give_back(limit, lease, ask)
    count(state, limit, lease, ask, now, rate)
    local grant = grant_of(limit, ask, rate)
    local credit = credit_of(limit, ask)
    local keeps = max(4 * ask.ttl_us, 2 * ceil(ask.burst / (ask.amount / ask.period_us)))
    local row_now = {ask.seq, grant, ask.kept, now + ask.ttl_us, limit.bucket, credit, min(ask.left, 0)}
    store(state, numbers(HEAD, limit), field, row_now, keeps)
    return answer(limit, ask, grant, credit)
  end

  RULES.limit = {ASK, exchange}
end
