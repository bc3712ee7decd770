do
  local SHORT_FOR = 4
  local ASK = {
    'asker', 'seq', 'seen', 'by_us', 'limit', 'total', 'spent', 'known', 'debt', 'want', 'least', 'stands', 'ttl_us',
    'keep_us',
  }
  local HEAD = {
    'total', 'spent', 'gone', 'debt', 'floor', 'learns_until', 'turn', 'members', 'peers', 'short_until',
  }
  local SEQ, TOTAL, SPENT, GRANT, TURN = 1, 2, 3, 4, 5

  local function known(money) return max(money.total + money.gone + money.debt, money.floor) end

  local function learn(money, row, ask)
    if not row and ask.stands > 0 then
      money.floor = max(money.floor, ask.known)
      money.learns_until = money.at + ask.ttl_us
    elseif money.floor > 0 and money.at >= money.learns_until then
      money.gone = money.gone + max(0, money.floor - (money.total + money.gone + money.debt))
      money.floor = 0
    end
  end

  local function count(money, row, ask)
    local turn = floor(money.at / ask.ttl_us)
    if turn ~= money.turn then
      money.peers = max(1, money.members)
      money.turn, money.members = turn, 0
    end
    if not row or row[TURN] ~= turn then money.members = money.members + 1 end
  end

  local function report(money, row, ask)
    money.debt = max(money.debt, ask.debt)
    money.total = money.total + (ask.total - (row and row[TOTAL] or 0))
    money.spent = money.spent + (ask.spent - (row and row[SPENT] or 0))
  end

  local function grant(money, ask)
    local there = money.floor > 0 and 0 or max(0, ask.limit - known(money))
    local found = min(ask.want, there, max(ask.least, floor(there / money.peers)))
    if found < ask.least then
      money.short_until = money.at + SHORT_FOR * ask.ttl_us
      return 0
    end
    money.total = money.total + found
    return found
  end

  local function answer(money, ask, found)
    local used, all = money.spent + money.gone + money.debt, known(money)
    local peers = max(money.peers, money.members)
    local short = money.at < money.short_until and 1 or 0
    return {ask.seq, found, max(0, used), max(0, all), max(0, ask.limit - all), peers, short}
  end

  local function exchange(state, ask, now)
    local field = field_of(ask.asker)
    local money = named(HEAD, state.head or {0, 0, 0, 0, 0, 0, -1, 0, 1, 0})
    money.at = now
    local row = load(state, field)
    if row and ask.seq <= row[SEQ] then return answer(money, ask, ask.seq == row[SEQ] and row[GRANT] or 0) end
    learn(money, row, ask)
    count(money, row, ask)
    report(money, row, ask)
    local found = grant(money, ask)
    local row_now = {ask.seq, ask.total + found, ask.spent, found, money.turn}
    store(state, numbers(HEAD, money), field, row_now, ask.keep_us)
    return answer(money, ask, found)
  end

  RULES.spend = {ASK, exchange}
end
