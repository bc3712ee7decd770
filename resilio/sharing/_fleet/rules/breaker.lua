do
  local CLOSED, OPEN, HALF_OPEN = 0, 1, 2
  local BY_FAILURE_RATE, BY_CONSECUTIVE, BY_SLOW_RATE, BY_PROBE_FAILED = 4, 5, 6, 7
  local BAD = 2
  local REOPENINGS, SHORTEST_KEEP_US = 31, 10000000
  local MOST_BUCKETS, MOST_PROOF = 16, 300
  local ASK = {
    'asker', 'seq', 'seen', 'by_us', 'generation', 'ok', 'failed', 'slow', 'tail', 'good_us', 'bad_us', 'gone', 'flying',
    'late', 'result', 'holds', 'ready', 'draw', 'tick_us', 'failed_share', 'slow_share', 'min_calls', 'consecutive',
    'window_calls', 'window_us', 'probes', 'closing', 'sure', 'open_us', 'max_open_us', 'lease_us',
  }
  local HEAD = {
    'generation', 'state', 'reason', 'measured', 'reopened', 'proven', 'until_us', 'half', 'blamed', 'row_since',
    'swept', 'peers',
  }
  local BUCKET = {'since', 'total', 'failed', 'slow', 'worst', 'worst_total', 'slowest', 'slowest_total'}
  local ASKER = {
    'seq', 'seen', 'called', 'bad', 'failing', 'failures', 'flying', 'late', 'tick', 'tick_total',
    'tick_failed', 'tick_slow', 'lease', 'lease_of', 'lease_until',
  }

  ---- evidence (breaker_evidence.py)

  local function sum(list, name)
    local found = 0
    for _, one in ipairs(list) do found = found + one[name] end
    return found
  end

  local function holds(asker, breaker)
    return asker.lease > 0 and asker.lease_of == breaker.generation and breaker.at < asker.lease_until
  end

  local function is_over(oldest, total, ask, at)
    if ask.window_us > 0 and ask.window_us <= at - oldest.since - ask.tick_us then return true end
    return ask.window_calls > 0 and ask.window_calls <= total - oldest.total
  end

  -- Begin a bucket if it is time, and drop what has left the window.
  local function roll(breaker, ask)
    local buckets, at = breaker.buckets, breaker.at
    local last = buckets[#buckets]
    if not last or at >= last.since + ask.tick_us then
      buckets[#buckets + 1] = named(BUCKET, {at, 0, 0, 0, 0, 0, 0, 0})
    end
    if #buckets > MOST_BUCKETS then
      local later = table.remove(buckets, 2)
      for i = 2, #BUCKET do buckets[1][BUCKET[i]] = buckets[1][BUCKET[i]] + later[BUCKET[i]] end
      buckets[1].since = later.since
    end
    local total = sum(buckets, 'total')
    while #buckets > 1 and is_over(buckets[1], total, ask, at) do
      total = total - table.remove(buckets, 1).total
    end
  end

  -- Add a report; one asker may send several within a tick.
  local function add_to(bucket, asker, ask)
    local total = ask.ok + ask.failed
    bucket.total = bucket.total + total
    bucket.failed = bucket.failed + ask.failed
    bucket.slow = bucket.slow + ask.slow
    if asker.tick ~= bucket.since then
      asker.tick, asker.tick_total, asker.tick_failed, asker.tick_slow = bucket.since, 0, 0, 0
    end
    asker.tick_total = asker.tick_total + total
    asker.tick_failed = asker.tick_failed + ask.failed
    asker.tick_slow = asker.tick_slow + ask.slow
    if asker.tick_failed >= max(bucket.worst, 1) then
      bucket.worst, bucket.worst_total = asker.tick_failed, asker.tick_total
    end
    if asker.tick_slow >= max(bucket.slowest, 1) then
      bucket.slowest, bucket.slowest_total = asker.tick_slow, asker.tick_total
    end
  end

  -- Add a report to the window and the row.
  local function add(breaker, asker, ask)
    roll(breaker, ask)
    local at = breaker.at
    add_to(breaker.buckets[#breaker.buckets], asker, ask)
    if ask.ok + ask.failed > 0 then asker.called = at end
    if ask.failed + ask.slow > 0 then asker.bad = at end
    local failures = ask.ok > 0 and ask.tail or ask.failed + ask.gone
    if ask.ok > 0 then
      breaker.row_since, asker.failing, asker.failures = max(breaker.row_since, at - ask.good_us), -1, 0
    end
    if failures > 0 and at - ask.bad_us >= breaker.row_since then
      if asker.failing < breaker.row_since then asker.failing, asker.failures = at - ask.bad_us, 0 end
      asker.failures = asker.failures + failures
    end
    asker.flying, asker.late = ask.flying, ask.late
  end

  -- How many failures in a row count, and how many there are.
  local function row_of(since, askers)
    local failures, longest, flying = 0, 0, 0
    for _, one in ipairs(askers) do
      if one.failing >= since then
        failures = failures + one.failures
        longest = max(longest, one.failures)
        flying = flying + one.flying
      end
    end
    return min(failures, 2 * (failures - longest)) - flying, failures
  end

  -- How many calls hang, by what was reported lately.
  local function silence_of(askers, lately)
    local late, longest = 0, 0
    for _, one in ipairs(askers) do
      if one.seen >= lately then late, longest = late + one.late, max(longest, one.late) end
    end
    return min(late, 2 * (late - longest))
  end

  -- Whether three quarters of those that have calls, by their last report, are in the row.
  local function is_all(since, askers, lately)
    local called, failing = 0, 0
    for _, one in ipairs(askers) do
      if one.called == one.seen and one.seen >= lately then
        called = called + 1
        if one.failing >= since then failing = failing + 1 end
      end
    end
    return 4 * failing >= 3 * called
  end

  local function is_proof(row, failed, total)
    local share, chance = (failed + 0.25) / (total + 1.0), 1.0
    for _ = 1, floor(min(row, MOST_PROOF)) do chance = chance * share end
    return chance <= 1e-6
  end

  local function is_quorum(since, askers)
    local called, bad = 0, 0
    for _, one in ipairs(askers) do
      if one.called >= since then called = called + 1 end
      if one.bad >= since then bad = bad + 1 end
    end
    return bad >= 2 and 4 * bad >= called
  end

  local function is_rate(bad, total, worst, worst_total, rate, ask)
    if rate == 0 or total == worst_total or 2 * (total - worst_total) < ask.min_calls then return false end
    return bad * MILLION >= rate * total and (bad - worst) * MILLION >= rate * (total - worst_total)
  end

  local function is_sure(failed, total, ask)
    local share = failed / total
    return ask.sure == 0 or share - 2.0 * sqrt(share * (1.0 - share) / total) >= ask.failed_share / MILLION
  end

  -- Why it opens, and what was measured; 0: it stays closed.
  local function judge(breaker, askers, ask)
    local buckets = breaker.buckets
    local total, failed = sum(buckets, 'total'), sum(buckets, 'failed')
    local lately = breaker.at - ask.tick_us - floor(ask.tick_us / 2)
    local row, seen = 0, 0
    if is_all(breaker.row_since, askers, lately) then row, seen = row_of(breaker.row_since, askers) end
    local silence = ask.sure ~= 0 and min(row, silence_of(askers, lately)) or 0
    if row + silence >= ask.consecutive and ask.consecutive > 0
        and (ask.sure == 0 or is_proof(row, max(0, failed - seen), max(0, total - seen))) then
      return BY_CONSECUTIVE, row
    end
    if total < ask.min_calls or not is_quorum(buckets[1].since, askers) then return 0, 0 end
    if is_rate(failed, total, sum(buckets, 'worst'), sum(buckets, 'worst_total'), ask.failed_share, ask)
        and is_sure(failed, total, ask) then
      return BY_FAILURE_RATE, floor(failed * MILLION / total)
    end
    local slow = sum(buckets, 'slow')
    if is_rate(slow, total, sum(buckets, 'slowest'), sum(buckets, 'slowest_total'), ask.slow_share, ask) then
      return BY_SLOW_RATE, floor(slow * MILLION / total)
    end
    return 0, 0
  end

  ---- the state (breaker.py)

  local function enter(breaker, state)
    breaker.state = state
    breaker.generation = breaker.generation + 1
    breaker.proven = 0
    breaker.buckets = {}
    breaker.row_since = breaker.at
  end

  local function open(breaker, ask, reopened)
    breaker.reopened = min(reopened, REOPENINGS)
    local open_us, again = ask.open_us, breaker.reopened
    while again > 0 and open_us < ask.max_open_us do
      open_us = open_us + floor(open_us / 2)
      again = again - 1
    end
    open_us = min(open_us, max(ask.max_open_us, ask.open_us))
    breaker.until_us = breaker.at + open_us - floor(open_us * ask.draw / (10 * MILLION))
    enter(breaker, OPEN)
  end

  local function sweep(kept, breaker, ask)
    if breaker.at < breaker.swept + ask.tick_us then return end
    breaker.swept = breaker.at
    local gone_us = breaker.at - max(SHORTEST_KEEP_US, 20 * ask.tick_us, 2 * ask.lease_us)
    for _, other in ipairs(others(kept)) do
      if other[2][2] < gone_us then
        drop(kept, other[1])
        breaker.peers = breaker.peers - 1
      end
    end
  end

  -- All askers, this one as it is now.
  local function all_askers(kept, field, asker)
    local found = {asker}
    for _, other in ipairs(others(kept)) do
      if other[1] ~= field then found[#found + 1] = named(ASKER, other[2]) end
    end
    return found
  end

  local function probed(breaker, asker, ask)
    asker.lease = 0
    if ask.result == BAD then
      breaker.reason, breaker.blamed = BY_PROBE_FAILED, ask.asker
      open(breaker, ask, breaker.reopened + 1)
      return
    end
    breaker.proven = breaker.proven + 1
    if breaker.proven >= ask.closing then
      breaker.reopened, breaker.blamed = 0, 0
      enter(breaker, CLOSED)
    end
  end

  local function report(kept, field, breaker, asker, ask)
    if ask.generation ~= breaker.generation then return end
    if breaker.state == CLOSED then
      add(breaker, asker, ask)
      if ask.failed + ask.slow > 0 or asker.failing >= breaker.row_since then
        local reason, measured = judge(breaker, all_askers(kept, field, asker), ask)
        if reason ~= 0 then
          breaker.reason, breaker.measured, breaker.blamed = reason, measured, 0
          open(breaker, ask, 0)
        end
      end
    elseif breaker.state == HALF_OPEN and ask.result ~= 0 then
      probed(breaker, asker, ask)
    end
  end

  local function is_full(kept, field, breaker, ask)
    local places, held = breaker.proven > 0 and max(1, ask.probes - breaker.proven) or 1, 0
    for _, other in ipairs(others(kept)) do
      if other[1] ~= field and holds(named(ASKER, other[2]), breaker) then held = held + 1 end
    end
    return held >= places
  end

  local function lease_of(kept, field, breaker, asker, ask)
    if breaker.state ~= HALF_OPEN then
      asker.lease = 0
      return 0
    end
    if holds(asker, breaker) and (ask.seen < asker.lease or ask.holds == asker.lease) then return asker.lease end
    asker.lease = 0
    local waits = ask.asker == breaker.blamed and breaker.at < breaker.half + 2 * ask.tick_us
    if ask.ready == 0 or waits or is_full(kept, field, breaker, ask) then return 0 end
    asker.lease, asker.lease_of, asker.lease_until = ask.seq, breaker.generation, breaker.at + ask.lease_us
    return ask.seq
  end

  local function load_breaker(kept, now)
    local row = kept.head or {now, CLOSED, 0, 0, 0, 0, 0, 0, 0, now, now, 0}
    local breaker = named(HEAD, row)
    breaker.at = now
    breaker.buckets = {}
    for i = #HEAD + 1, #row, #BUCKET do
      local bucket = {}
      for n = 1, #BUCKET do bucket[BUCKET[n]] = row[i + n - 1] end
      breaker.buckets[#breaker.buckets + 1] = bucket
    end
    return breaker
  end

  local function row_of_breaker(breaker)
    local row = numbers(HEAD, breaker)
    for _, bucket in ipairs(breaker.buckets) do
      for n = 1, #BUCKET do row[#row + 1] = bucket[BUCKET[n]] end
    end
    return row
  end

  local function exchange(kept, ask, now)
    local breaker, field = load_breaker(kept, now), field_of(ask.asker)
    if ask.generation > breaker.generation then
      breaker.generation, breaker.reopened = ask.generation, 0
      enter(breaker, CLOSED)
    end
    sweep(kept, breaker, ask)
    local row = load(kept, field)
    if not row then breaker.peers = breaker.peers + 1 end
    local asker = named(ASKER, row or {0, 0, -1, -1, -1, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0})
    asker.seen = breaker.at
    local lease = holds(asker, breaker) and asker.lease or 0
    if ask.seq > asker.seq then
      asker.seq = ask.seq
      report(kept, field, breaker, asker, ask)
      if breaker.state == OPEN and breaker.at >= breaker.until_us then
        enter(breaker, HALF_OPEN)
        breaker.half = breaker.at
      end
      lease = lease_of(kept, field, breaker, asker, ask)
    end
    local keeps = max(SHORTEST_KEEP_US, ask.window_us, 2 * ask.max_open_us, 2 * ask.lease_us, 20 * ask.tick_us)
    store(kept, row_of_breaker(breaker), field, numbers(ASKER, asker), keeps)
    local left = breaker.state == OPEN and max(0, breaker.until_us - breaker.at) or 0
    return {
      ask.seq, breaker.state, breaker.generation, left, breaker.reason, breaker.measured, breaker.reopened,
      breaker.proven, lease, breaker.peers,
    }
  end

  RULES.breaker = {ASK, exchange}
end
