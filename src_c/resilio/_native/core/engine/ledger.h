/* The time ledger of a call: how long it has been at what.
 *
 * A call that is admitted at once, runs once and succeeds has none: all of its time is the attempt, and the readings of
 * the clock that its gates need anyway say how long that was. The first thing that is different makes one. From then on
 * each transition closes the segment that was open, with a reading that is there already: so segments add up to the wall
 * time whatever happens.
 *
 * What is inside of a stage that was run in Python (a Rest: on trio, in a thread) writes into the ledger of its call. It
 * does so in a lane: once the stage has ended, what may still run inside, a thread that was abandoned, writes no more.
 * Copies of a hedge run beside the call, and have each a ledger of their own, which the call takes over if the copy wins.
 */
#ifndef RS_LEDGER_H
#define RS_LEDGER_H
#include "gate.h"
#include "segments.h"

#define RS_ENTRIES 12
#define RS_LANES 33                 /* RS_MAX_GATES, and one */

typedef struct rs_entry {           /* one line of the trail */
    int64_t ns;
    uint32_t attempt;               /* from 1; 0: of none */
    uint8_t segment;                /* rs_segment; RS_SEGMENTS: what found no place of its own */
} rs_entry;

typedef struct rs_spent {
    int64_t ns[RS_SPENT];
    int n;
    rs_entry entry[RS_ENTRIES];
} rs_spent;

typedef struct rs_saved {           /* what was spent when a hedge's stage began: what its copies compete for */
    struct rs_saved *next;
    int stage;
    int64_t at_ns;
    rs_spent spent;
} rs_saved;

typedef struct rs_ledger {
    rs_lock lock;
    int refs;
    int base;                       /* of the run that it belongs to: others write into it from inside */
    uint32_t attempt;               /* of the open segment */
    uint16_t lanes;                 /* given so far */
    uint16_t lane[RS_LANES];        /* by base: of the run inside of a stage run in Python that may write; 0: none */
    uint8_t segment;                /* the open one */
    uint8_t copy;                   /* of a hedge's copy */
    uint8_t adopted;                /* and the call has taken it over */
    uint8_t closed;
    int64_t began_ns, mark_ns;      /* mark: since when the open one is, or when it was closed */
    rs_spent spent;
    rs_saved *saved;
} rs_ledger;

struct rs_run;
extern int64_t rs_slow_ns;          /* calls that take at least this long are told of; INT64_MAX: none */

rs_ledger *rs_ledger_share(struct rs_run *run, int base, uint16_t *lane);   /* with a run of that base: a new reference, or NULL */
rs_ledger *rs_ledger_of_copy(int base, int64_t now);
rs_ledger *rs_ledger_keep(rs_ledger *ledger);                   /* another reference; NULL goes through */
void rs_ledger_drop(rs_ledger **ledger);
void rs_ledger_lend(struct rs_run *run, struct rs_run *to);     /* of a stream, to a stage inside that has not begun */
void rs_ledger_adopt(rs_ledger *ledger, rs_ledger *copy, int stage, int64_t now);
int64_t rs_ledger_wasted(const rs_ledger *copy);                /* by a copy that has ended and was not adopted */

void rs_ledger_begin(struct rs_run *run);       /* if there is none: all from its beginning on is the attempt */
void rs_ledger_go(struct rs_run *run, int segment, int64_t now);    /* if there is one */
void rs_ledger_ended(struct rs_run *run, int64_t now);          /* what is inside has: so have phases of calls around */
void rs_ledger_answered(struct rs_run *run, int next, int64_t now);  /* the stage at n - 1 goes on: rs_next */
void rs_ledger_save(struct rs_run *run, int stage, int64_t now);
void rs_ledger_first(struct rs_run *run, int64_t now);
int rs_ledger_phase(struct rs_run *run, int segment, int64_t now);
PyObject *rs_ledger_close(struct rs_run *run, int64_t now);     /* count it; not NULL: a slow one, to be told by rs_ledger_slow */
void rs_ledger_uncalled(struct rs_run *run, int floor, int64_t now);     /* if there is one */
PyObject *rs_ledger_slow_attempt(rs_gate *gate, int64_t ns);
void rs_ledger_slow(PyObject *slow, PyObject *error);
void rs_ledger_attach(struct rs_run *run, PyObject *error, int64_t now);
void rs_ledger_attach_pending(struct rs_run *run);
PyObject *rs_ledger_segments(const struct rs_run *run, int64_t now);

extern PyTypeObject rs_SegmentsType;
PyObject *rs_segments_new(const rs_spent *spent);
PyObject *rs_segments_dict(const int64_t *ns);
int rs_segments_add(PyObject *module);
int rs_segment_of(PyObject *name);  /* of a phase; -1 with an exception */
int rs_any_segment_of(PyObject *name);

/* Counters of a gate that are added to outside of its lock. */
#ifdef Py_GIL_DISABLED
#define RS_SPEND(gate, segment, add) ((void)__atomic_add_fetch(&(gate)->spent_ns[segment], (add), __ATOMIC_RELAXED))
#else
#define RS_SPEND(gate, segment, add) ((void)((gate)->spent_ns[segment] += (add)))
#endif
#endif
