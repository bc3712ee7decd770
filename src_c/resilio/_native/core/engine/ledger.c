/* The time ledger of a call: its record, its writers, and where the time goes in the end. See ledger.h. */
#include "core.h"

int64_t rs_slow_ns = INT64_MAX;

/* ---- the record --------------------------------------------------------------------------------------------- */

static rs_ledger *ledger_new(int64_t began_ns, int base)
{
    rs_ledger *ledger = PyMem_RawCalloc(1, sizeof(rs_ledger));
    if (ledger) {
        ledger->refs = 1;
        ledger->base = base;
        ledger->segment = RS_ATTEMPT;
        ledger->began_ns = ledger->mark_ns = began_ns;
    }
    return ledger; /* NULL: no ledger for this call */
}

rs_ledger *rs_ledger_keep(rs_ledger *ledger)
{
    if (ledger)
        __atomic_add_fetch(&ledger->refs, 1, __ATOMIC_RELAXED);
    return ledger;
}

static rs_lock drop_lock; /* for a run that drops its ledger while another thread reads it */

void rs_ledger_after_fork(void) { rs_lock_reset(&drop_lock); }

rs_ledger *rs_ledger_of(const rs_run *run)
{
    rs_lock_acquire(&drop_lock);
    rs_ledger *ledger = rs_ledger_keep(run->ledger);
    rs_lock_release(&drop_lock);
    return ledger;
}

void rs_ledger_drop(rs_ledger **of)
{
    rs_lock_acquire(&drop_lock);
    rs_ledger *ledger = *of;
    *of = NULL;
    rs_lock_release(&drop_lock);
    if (ledger == NULL || __atomic_sub_fetch(&ledger->refs, 1, __ATOMIC_ACQ_REL))
        return;
    while (ledger->saved) {
        rs_saved *next = ledger->saved->next;
        PyMem_RawFree(ledger->saved);
        ledger->saved = next;
    }
    PyMem_RawFree(ledger);
}

/* owns: the ledger belongs to this run, not to one around it. may_write: as the owner, or from inside by its lane. */
static inline int owns(const rs_run *run, const rs_ledger *ledger) { return run->base == ledger->base; }

static inline int may_write(const rs_run *run, const rs_ledger *ledger)
{
    return !ledger->closed && (owns(run, ledger) || run->lane == ledger->lane[run->base]);
}

void rs_spend(rs_spent *spent, int segment, uint32_t attempt, int64_t ns)
{
    if (ns <= 0)
        return;
    rs_entry *last = spent->n ? &spent->entry[spent->n - 1] : NULL;
    spent->ns[segment] += ns;
    if (segment == RS_OWN) /* occurs between all other segments; no entry of its own */
        return;
    if (last && last->segment == segment && last->attempt == attempt)
        last->ns += ns;
    else if (spent->n < RS_ENTRIES)
        spent->entry[spent->n++] = (rs_entry){ns, attempt, (uint8_t)segment};
    else {
        last->segment = RS_SEGMENTS;
        last->attempt = 0;
        last->ns += ns;
    }
}

/* Close the open segment at *now* and open another. Lock held. */
static void turn(rs_ledger *ledger, int segment, uint32_t attempt, int64_t now)
{
    rs_spend(&ledger->spent, ledger->segment, ledger->attempt, now - ledger->mark_ns);
    ledger->mark_ns = Py_MAX(ledger->mark_ns, now);
    ledger->segment = (uint8_t)segment;
    ledger->attempt = attempt;
}

static inline int is_phase(int segment) { return segment >= RS_ATTEMPT && segment <= RS_BODY; }

/* ---- written by a run --------------------------------------------------------------------------------------- */

void rs_ledger_begin(rs_run *run)
{
    int64_t began_ns = run->ledger ? 0 : rs_run_began(run);
    rs_ledger *made = began_ns ? ledger_new(began_ns, run->base) : NULL, *none = NULL;
    if (made == NULL)
        return;
    made->attempt = run->attempt + 1;
    if (!__atomic_compare_exchange_n(&run->ledger, &none, made, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        rs_ledger_drop(&made); /* two threads use a permit at once */
}

void rs_ledger_go(rs_run *run, int segment, int64_t now)
{
    rs_ledger *ledger = run->ledger;
    if (ledger == NULL)
        return;
    rs_lock_acquire(&ledger->lock);
    if (may_write(run, ledger))
        turn(ledger, segment, run->attempt + 1, now);
    rs_lock_release(&ledger->lock);
}

/* Count time within the attempt, if one is open, as *segment* from now on. */
static void turn_phase(rs_run *run, int segment, int64_t now)
{
    rs_ledger *ledger = run->ledger;
    if (ledger == NULL)
        return;
    rs_lock_acquire(&ledger->lock);
    if (may_write(run, ledger) && is_phase(ledger->segment))
        turn(ledger, segment, ledger->attempt, now);
    rs_lock_release(&ledger->lock);
}

void rs_ledger_phase(rs_run *run, int segment, int64_t now)
{
    rs_ledger_begin(run);
    turn_phase(run, segment, now);
}

/* The inner part has ended, and *segment* follows. Calls around had its phase reported too, so the
   phase ends for them as well. */
static void ended(rs_run *run, int segment, int64_t now)
{
    rs_ledger *ledger = run->ledger;
    int phase = RS_ATTEMPT;
    if (ledger == NULL)
        return;
    rs_lock_acquire(&ledger->lock);
    if (may_write(run, ledger)) {
        phase = ledger->segment;
        turn(ledger, segment, run->attempt + 1, now);
        /* Runs left behind inside write no more. */
        memset(&ledger->lane[run->base + 1], 0, (RS_LANES - 1 - (size_t)run->base) * sizeof(uint16_t));
    }
    rs_lock_release(&ledger->lock);
    if (phase == RS_ATTEMPT || !is_phase(phase))
        return;
    rs_frame *chains[2] = {*rs_ambient(), *rs_ambient_streams()};
    for (int i = 0; i < 2; i++)
        for (rs_frame *frame = chains[i]; frame; frame = frame->outer)
            if (frame->run != run && frame->run->ledger != ledger)
                turn_phase(frame->run, RS_ATTEMPT, now);
}

void rs_ledger_ended(rs_run *run, int64_t now) { ended(run, RS_OWN, now); }

/* The strategy at n - 1 continues the call. The time up to *now* was the attempt, unless a phase was reported. */
void rs_ledger_answered(rs_run *run, int next, int64_t now)
{
    rs_ledger_begin(run);
    rs_ledger_go(run, next == RS_AGAIN ? RS_OWN : run->slots[run->n - 1].gate->ops->segment, now);
}

/* Mark the first item of a stream, or of an answer. */
void rs_ledger_first(rs_run *run, int64_t now)
{
    rs_ledger_begin(run);
    rs_ledger *ledger = run->ledger;
    if (ledger == NULL)
        return;
    rs_lock_acquire(&ledger->lock);
    if (may_write(run, ledger) && is_phase(ledger->segment)) {
        if (ledger->segment == RS_ATTEMPT)
            ledger->segment = RS_FIRST_BYTE;
        turn(ledger, RS_BODY, ledger->attempt, now);
    }
    rs_lock_release(&ledger->lock);
}

/* ---- stages run in Python, and copies ----------------------------------------------------------------------- */

rs_ledger *rs_ledger_share(rs_run *run, int base, uint16_t *lane)
{
    rs_ledger_begin(run);
    rs_ledger *ledger = rs_ledger_keep(run->ledger);
    if (ledger) {
        rs_lock_acquire(&ledger->lock);
        if (++ledger->lanes == 0)
            ledger->lanes = 1;
        *lane = ledger->lane[base] = ledger->lanes;
        rs_lock_release(&ledger->lock);
    }
    return ledger;
}

/* The stages of a stream hold a permit each, nested. All write into one ledger, that of the outermost. */
void rs_ledger_lend(rs_run *run, rs_run *to)
{
    to->inside = 1;
    rs_ledger_begin(run);
    if ((to->ledger = rs_ledger_keep(run->ledger)) == NULL)
        return;
    to->lent = 1;
    rs_lock_acquire(&to->ledger->lock);
    to->attempt = to->ledger->attempt - 1;
    rs_lock_release(&to->ledger->lock);
}

rs_ledger *rs_ledger_of_copy(int base, int64_t now)
{
    rs_ledger *ledger = ledger_new(now, base);
    if (ledger)
        ledger->copy = 1;
    return ledger;
}

/* The hedge's stage at *stage* begins: save the time spent before it. */
void rs_ledger_save(rs_run *run, int stage, int64_t now)
{
    rs_ledger *ledger = run->ledger;
    rs_saved *saved = ledger->saved;
    while (saved && saved->stage != stage)
        saved = saved->next;
    if (saved == NULL) {
        if ((saved = PyMem_RawMalloc(sizeof(rs_saved))) == NULL)
            return;
        saved->next = ledger->saved;
        saved->stage = stage;
        ledger->saved = saved;
    }
    rs_lock_acquire(&ledger->lock);
    saved->at_ns = now;
    saved->spent = ledger->spent;
    if (may_write(run, ledger))
        rs_spend(&saved->spent, ledger->segment, ledger->attempt, now - ledger->mark_ns);
    rs_lock_release(&ledger->lock);
}

/* The copy has won: the primary's time since its stage began is wasted, and the copy's time is the call's. */
void rs_ledger_adopt(rs_ledger *ledger, rs_ledger *copy, int stage, int64_t now)
{
    static const rs_spent nothing;
    rs_saved *saved = ledger->saved;
    while (saved && saved->stage != stage)
        saved = saved->next;
    int64_t from_ns = saved ? saved->at_ns : ledger->began_ns;
    rs_lock_acquire(&copy->lock);
    copy->adopted = 1;
    int64_t began_ns = copy->began_ns, ended_ns = copy->mark_ns;
    rs_spent spent = copy->spent;
    rs_lock_release(&copy->lock);
    rs_lock_acquire(&ledger->lock);
    if (!ledger->closed) {
        const rs_spent *before = saved ? &saved->spent : &nothing;
        int64_t wasted = ledger->spent.ns[RS_WASTED];
        for (int i = RS_QUEUE; i < RS_SEGMENTS; i++)
            if (i != RS_HEDGE)
                wasted += ledger->spent.ns[i] - before->ns[i];
        ledger->spent = *before;
        ledger->spent.ns[RS_WASTED] = wasted;
        rs_spend(&ledger->spent, RS_HEDGE, ledger->attempt, began_ns - from_ns);
        ledger->spent.ns[RS_OWN] += spent.ns[RS_OWN];
        for (int i = 0; i < spent.n; i++)
            rs_spend(&ledger->spent, spent.entry[i].segment == RS_SEGMENTS ? RS_ATTEMPT : spent.entry[i].segment,
                     ledger->attempt, spent.entry[i].ns);
        rs_spend(&ledger->spent, RS_HEDGE, ledger->attempt, now - ended_ns);
        ledger->mark_ns = Py_MAX(ledger->mark_ns, now);
        ledger->segment = RS_OWN;
    }
    rs_lock_release(&ledger->lock);
}

int64_t rs_ledger_wasted(const rs_ledger *copy)
{
    return copy->copy && copy->closed && !copy->adopted ? copy->mark_ns - copy->began_ns : 0;
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

static int64_t total(const rs_spent *spent)
{
    int64_t sum = 0;
    for (int i = 0; i < RS_SEGMENTS; i++)
        sum += spent->ns[i];
    return sum;
}

/* The run is over: count it at its outermost gate, which is still held. */
PyObject *rs_ledger_close(rs_run *run, int64_t now)
{
    rs_ledger *ledger = run->ledger;
    int mine = owns(run, ledger);
    ended(run, mine ? RS_OWN : run->pipe->gate[run->base - 1]->ops->segment, now);
    if (!mine || run->lent) /* its stage continues: a hedging one waits for copies */
        return NULL;
    rs_lock_acquire(&ledger->lock);
    int counts = !ledger->closed && !run->inside && run->n > 0;
    ledger->closed = 1;
    rs_lock_release(&ledger->lock);
    if (!counts)
        return NULL;
    rs_gate *gate = run->slots[0].gate;
    for (int i = 0; i <= RS_WASTED; i++)
        if (ledger->spent.ns[i])
            RS_SPEND(gate, i, ledger->spent.ns[i]);
    return total(&ledger->spent) >= rs_slow_ns ? rs_ledger_slow_of(gate, &ledger->spent) : NULL;
}

/* The stages inside *floor* were not called: the time waited counts nevertheless. */
void rs_ledger_uncalled(rs_run *run, int floor, int64_t now)
{
    if (floor > run->base)
        rs_ledger_go(run, RS_OWN, now);
    else
        Py_XDECREF(rs_ledger_close(run, now)); /* no slow call: the callee was not called */
}
