/* The time ledger of a call: the time spent in each segment.
 *
 * A call that is admitted at once, runs once and succeeds has none. All of its time is the attempt, known from clock
 * readings that its gates need anyway. The first deviation creates a ledger. From then on each transition closes the
 * open segment with an existing clock reading: so segments always add up to the wall time.
 *
 * The runs inside a stage run in Python (an InnerCall: on trio, in a thread) write into the ledger of their call, in a
 * lane. Once the stage has ended, a run left behind there, in an abandoned thread, writes no more. Copies of a hedge
 * run beside the call. Each has its own ledger, which the call takes over if the copy wins.
 */
#ifndef RS_LEDGER_H
#define RS_LEDGER_H
#include "gate.h"
#include "segments.h"

#define RS_ENTRIES 12
#define RS_LANES 33 /* RS_MAX_GATES + 1 */

typedef struct rs_entry { /* one line of the trail */
    int64_t ns;
    uint32_t attempt; /* from 1; 0: of none */
    uint8_t segment;  /* rs_segment; RS_SEGMENTS: time without an entry of its own */
} rs_entry;

typedef struct rs_spent {
    int64_t ns[RS_SPENT];
    int n;
    rs_entry entry[RS_ENTRIES];
} rs_spent;

typedef struct rs_saved { /* spent when a hedge's stage began; its copies compete from here */
    struct rs_saved *next;
    int stage;
    int64_t at_ns;
    rs_spent spent;
} rs_saved;

typedef struct rs_ledger {
    rs_lock lock;
    int refs;
    int base;                /* of the run that owns it: others write into it from inside */
    uint32_t attempt;        /* of the open segment */
    uint16_t lanes;          /* lanes assigned so far */
    uint16_t lane[RS_LANES]; /* by base: the lane that may write inside a stage run in Python; 0: none */
    uint8_t segment;         /* the open one */
    uint8_t copy;            /* of a hedge's copy */
    uint8_t adopted;         /* the call has taken the copy's ledger over */
    uint8_t closed;
    int64_t began_ns, mark_ns; /* mark: when the open segment began, or when the ledger was closed */
    rs_spent spent;
    rs_saved *saved;
} rs_ledger;

struct rs_run;
extern int64_t rs_slow_ns; /* calls that take at least this long are reported; INT64_MAX: none */

/* Share with a run of that base: a new reference, or NULL. */
rs_ledger *rs_ledger_share(struct rs_run *run, int base, uint16_t *lane);
rs_ledger *rs_ledger_of_copy(int base, int64_t now);
rs_ledger *rs_ledger_keep(rs_ledger *ledger); /* another reference; NULL passes through */
void rs_ledger_drop(rs_ledger **ledger);
void rs_ledger_lend(struct rs_run *run, struct rs_run *to); /* of a stream, to a stage inside that has not begun */
void rs_ledger_adopt(rs_ledger *ledger, rs_ledger *copy, int stage, int64_t now);
int64_t rs_ledger_wasted(const rs_ledger *copy); /* wasted by a copy that has ended and was not adopted */

void rs_ledger_begin(struct rs_run *run); /* if there is none: all time since the run began is the attempt */
void rs_ledger_go(struct rs_run *run, int segment, int64_t now); /* if there is one */
void rs_ledger_ended(struct rs_run *run, int64_t now); /* the inner part has ended; so have phases of calls around */
void rs_ledger_answered(struct rs_run *run, int next, int64_t now); /* the stage at n - 1 continues: rs_next */
void rs_ledger_save(struct rs_run *run, int stage, int64_t now);
void rs_ledger_first(struct rs_run *run, int64_t now);
void rs_ledger_phase(struct rs_run *run, int segment, int64_t now);
PyObject *rs_ledger_close(struct rs_run *run, int64_t now); /* count it; not NULL: a slow call, for rs_ledger_slow */
void rs_ledger_uncalled(struct rs_run *run, int floor, int64_t now); /* if there is one */
void rs_spend(rs_spent *spent, int segment, uint32_t attempt, int64_t ns);
rs_ledger *rs_ledger_of(const struct rs_run *run);                 /* a new reference, in any thread; or NULL */
PyObject *rs_ledger_slow_of(rs_gate *gate, const rs_spent *spent); /* for rs_ledger_slow; NULL without memory */
PyObject *rs_ledger_slow_attempt(rs_gate *gate, int64_t ns);
void rs_ledger_slow(PyObject *slow, PyObject *error);
void rs_ledger_slow_dropped(PyObject *slow); /* the same of a call that was dropped; does not steal */
void rs_ledger_attach(struct rs_run *run, PyObject *error, PyObject *calls, int64_t now);
void rs_ledger_attach_pending(struct rs_run *run);
PyObject *rs_ledger_segments(const struct rs_run *run, int64_t now);

extern PyTypeObject rs_SegmentsType;
PyObject *rs_segments_new(const rs_spent *spent);
void rs_segments_add_cost(PyObject *segments, PyObject *calls);
int rs_run_gate_calls(const struct rs_run *run, PyObject *into); /* appended; -1 with an exception */
PyObject *rs_run_spends(
    const struct rs_run *run); /* what its spend limits keep of it, a list; NULL: none, no exception */
PyObject *rs_segments_dict(const int64_t *ns);
int rs_segments_add(PyObject *module);
int rs_segment_of(PyObject *name); /* of a phase; -1 with an exception */
int rs_any_segment_of(PyObject *name);

/* Counters of a gate that are updated without its lock. */
#ifdef Py_GIL_DISABLED
#define RS_SPEND(gate, segment, add) ((void)__atomic_add_fetch(&(gate)->spent_ns[segment], (add), __ATOMIC_RELAXED))
#else
#define RS_SPEND(gate, segment, add) ((void)((gate)->spent_ns[segment] += (add)))
#endif
#endif
