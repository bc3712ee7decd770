/* The queue of a load shedder: which call is served next, and which is rejected first. No operation
 * depends on the queue's length.
 *
 * Classes come first, in strict order. Within a class there is one list for each rank, and a
 * bitmap of the lists in use:
 *
 *   ranked   lists 0..63 hold calls of tasks served before, 64..127 the others, both by a hash of the task. The lowest
 *            list is served next, the highest is rejected first.
 *   fair     each tenant, or all that share its hash, is a flow with two lists: calls of tasks served before, and
 *            others. Flows take turns by deficit round robin, with time as the cost. A grant charges the usual time of
 *            a call, and its end the difference. The longest flow sheds first.
 *
 * Within a list the oldest is next, or under heavy overload the newest: the others would be answered too late anyway.
 *
 * Source: DAGOR (Zhou et al., SoCC 2018) for the order by task; Shreedhar and Varghese, SIGCOMM 1995, for the turns;
 * McKenney, INFOCOM 1990, for flows by hash and dropping from the longest.
 *
 * Everything here runs under the gate's lock. Memory is malloc's, so that no allocator of Python runs inside.
 */
#ifndef RS_SHED_QUEUE_H
#define RS_SHED_QUEUE_H
#include <stdlib.h>
#include <string.h>
#include "waiters.h"

#define RS_SHED_CLASSES 4
#define RS_SHED_RANKED_LISTS 128
#define RS_SHED_FLOWS 512
#define RS_SHED_DEBT 4 /* quanta of debt or savings of a flow, at most */

typedef struct rs_shed_list {
    rs_waiter *head, *tail; /* oldest, newest */
} rs_shed_list;

typedef struct rs_shed_flow {
    int64_t deficit; /* ns of service that it may still use in this turn */
    int64_t length;
} rs_shed_flow;

typedef struct rs_shed_class {
    uint64_t *bits; /* a bit for each list: not empty */
    rs_shed_list *lists;
    rs_shed_flow *flows; /* NULL: ranked */
    uint32_t turn;       /* the flow whose turn it is */
    uint32_t begun;      /* whether it has received its quantum */
    int64_t length;
} rs_shed_class;

typedef struct rs_shed_queue {
    rs_shed_class classes[RS_SHED_CLASSES];
    uint32_t lists; /* of each class */
    int64_t length;
    void *memory;
} rs_shed_queue;

/* The place of a waiter, kept in its `amount`. */
static inline int64_t rs_shed_place(int level, uint32_t list) { return (int64_t)level << 16 | list; }
static inline int rs_shed_level(int64_t place) { return (int)(place >> 16); }
static inline uint32_t rs_shed_list_of(int64_t place) { return (uint32_t)(place & 0xffff); }

/* The list of a call. *hash*: of the task, or of the tenant. */
static inline uint32_t rs_shed_rank(const rs_shed_queue *queue, uint64_t hash, int known)
{
    if (queue->lists == RS_SHED_RANKED_LISTS)
        return (uint32_t)(hash >> 58) + (known ? 0 : 64);
    return (uint32_t)(hash >> 55) * 2 + !known;
}

/* -1: no memory. */
static inline int rs_shed_init(rs_shed_queue *queue, int fair)
{
    uint32_t lists = fair ? 2 * RS_SHED_FLOWS : RS_SHED_RANKED_LISTS;
    size_t bits = lists / 64 * sizeof(uint64_t), all = lists * sizeof(rs_shed_list),
           flows = fair ? RS_SHED_FLOWS * sizeof(rs_shed_flow) : 0;
    char *memory = (char *)calloc(RS_SHED_CLASSES, bits + all + flows);
    if (memory == NULL)
        return -1;
    memset(queue, 0, sizeof(*queue));
    queue->lists = lists;
    queue->memory = memory;
    for (int i = 0; i < RS_SHED_CLASSES; i++, memory += bits + all + flows) {
        queue->classes[i].bits = (uint64_t *)memory;
        queue->classes[i].lists = (rs_shed_list *)(memory + bits);
        queue->classes[i].flows = fair ? (rs_shed_flow *)(memory + bits + all) : NULL;
    }
    return 0;
}

static inline void rs_shed_release(rs_shed_queue *queue)
{
    free(queue->memory);
    queue->memory = NULL;
}

/* After a fork: forget all waiters. */
static inline void rs_shed_forget(rs_shed_queue *queue)
{
    for (int i = 0; i < RS_SHED_CLASSES; i++) {
        rs_shed_class *class = &queue->classes[i];
        memset(class->bits, 0, queue->lists / 64 * sizeof(uint64_t));
        memset(class->lists, 0, queue->lists * sizeof(rs_shed_list));
        if (class->flows)
            memset(class->flows, 0, RS_SHED_FLOWS * sizeof(rs_shed_flow));
        class->length = class->turn = class->begun = 0;
    }
    queue->length = 0;
}

static inline void rs_shed_push(rs_shed_queue *queue, rs_waiter *waiter, int64_t place, int64_t now_ns)
{
    rs_shed_class *class = &queue->classes[rs_shed_level(place)];
    uint32_t at = rs_shed_list_of(place);
    rs_shed_list *list = &class->lists[at];
    waiter->amount = place;
    waiter->prev = list->tail;
    waiter->next = NULL;
    if (list->tail)
        list->tail->next = waiter;
    else {
        list->head = waiter;
        class->bits[at / 64] |= UINT64_C(1) << at % 64;
    }
    list->tail = waiter;
    waiter->state = RS_WAITER_QUEUED;
    waiter->enqueued_ns = now_ns;
    class->length++;
    queue->length++;
    if (class->flows)
        class->flows[at / 2].length++;
}

static inline void rs_shed_remove(rs_shed_queue *queue, rs_waiter *waiter)
{
    rs_shed_class *class = &queue->classes[rs_shed_level(waiter->amount)];
    uint32_t at = rs_shed_list_of(waiter->amount);
    rs_shed_list *list = &class->lists[at];
    if (waiter->prev)
        waiter->prev->next = waiter->next;
    else
        list->head = waiter->next;
    if (waiter->next)
        waiter->next->prev = waiter->prev;
    else
        list->tail = waiter->prev;
    waiter->prev = waiter->next = NULL;
    waiter->state = RS_WAITER_IDLE;
    if (list->head == NULL)
        class->bits[at / 64] &= ~(UINT64_C(1) << at % 64);
    class->length--;
    queue->length--;
    if (class->flows && --class->flows[at / 2].length == 0 && class->flows[at / 2].deficit > 0)
        class->flows[at / 2].deficit = 0; /* nothing is saved while idle; a debt stays */
}

/* The first list at or after *at* that is not empty, or -1. */
static inline int32_t rs_shed_next_list(const rs_shed_queue *queue, const rs_shed_class *class, uint32_t at)
{
    uint32_t words = queue->lists / 64, word = at / 64;
    if (word >= words)
        return -1;
    uint64_t bits = class->bits[word] & (~UINT64_C(0) << at % 64);
    while (bits == 0)
        if (++word == words)
            return -1;
        else
            bits = class->bits[word];
    return (int32_t)(word * 64 + (uint32_t)__builtin_ctzll(bits));
}

/* The list whose turn it is, in a class that is not empty. *quantum_ns* > 0. Debts are
   bounded, so the loop ends soon. */
static inline uint32_t rs_shed_turn(rs_shed_queue *queue, rs_shed_class *class, int64_t quantum_ns)
{
    if (class->flows == NULL)
        return (uint32_t)rs_shed_next_list(queue, class, 0);
    for (;;) {
        int32_t at = rs_shed_next_list(queue, class, 2 * class->turn);
        if (at < 0 || (uint32_t)at / 2 != class->turn) {
            class->turn = at < 0 ? 0 : (uint32_t)at / 2;
            class->begun = 0;
            continue;
        }
        rs_shed_flow *flow = &class->flows[class->turn];
        if (!class->begun) {
            class->begun = 1;
            int64_t least = -RS_SHED_DEBT * quantum_ns;
            flow->deficit = (flow->deficit < least ? least : flow->deficit) + quantum_ns;
        }
        if (flow->deficit > 0)
            return (uint32_t)at;
        class->turn++;
        class->begun = 0;
    }
}

/* The next waiter of the classes up to *last*; NULL: none waits. */
static inline rs_waiter *rs_shed_best(rs_shed_queue *queue, int last, int newest_first, int64_t quantum_ns)
{
    for (int i = 0; i <= last; i++) {
        rs_shed_class *class = &queue->classes[i];
        if (class->length) {
            rs_shed_list *list = &class->lists[rs_shed_turn(queue, class, quantum_ns)];
            return newest_first ? list->tail : list->head;
        }
    }
    return NULL;
}

static inline uint32_t rs_shed_last_list(const rs_shed_queue *queue, const rs_shed_class *class)
{
    uint32_t word = queue->lists / 64 - 1;
    while (class->bits[word] == 0)
        word--;
    return word * 64 + 63 - (uint32_t)__builtin_clzll(class->bits[word]);
}

/* The longest flow of a class that is not empty, the first of equals. */
static inline uint32_t rs_shed_longest_flow(const rs_shed_queue *queue, const rs_shed_class *class)
{
    uint32_t longest = 0;
    int64_t length = 0;
    for (int32_t at = rs_shed_next_list(queue, class, 0); at >= 0;
         at = rs_shed_next_list(queue, class, ((uint32_t)at / 2 + 1) * 2))
        if (class->flows[at / 2].length > length) {
            length = class->flows[at / 2].length;
            longest = (uint32_t)at / 2;
        }
    return longest;
}

/* The list of a flow that is rejected first. */
static inline uint32_t rs_shed_worse_half(const rs_shed_class *class, uint32_t flow)
{
    return 2 * flow + (class->lists[2 * flow + 1].head != NULL);
}

/* The waiter to shed from a full queue for a call at *place*; NULL: that call ranks lowest itself. */
static inline rs_waiter *rs_shed_victim(const rs_shed_queue *queue, int64_t place, int newest_first)
{
    int worst = RS_SHED_CLASSES - 1, level = rs_shed_level(place);
    while (worst > 0 && queue->classes[worst].length == 0)
        worst--;
    const rs_shed_class *class = &queue->classes[worst];
    if (class->length == 0 || level > worst)
        return NULL;
    uint32_t mine = rs_shed_list_of(place), at;
    int among_equals = level == worst;
    if (class->flows == NULL)
        at = rs_shed_last_list(queue, class);
    else {
        uint32_t flow = rs_shed_longest_flow(queue, class);
        int64_t length = class->flows[mine / 2].length;
        if (!among_equals || length + 1 < class->flows[flow].length) {
            at = rs_shed_worse_half(class, flow);
            among_equals = 0;
        }
        else if (length == 0)
            return NULL;
        else
            at = rs_shed_worse_half(class, mine / 2);
    }
    if (among_equals && (mine > at || (mine == at && !newest_first)))
        return NULL;
    return newest_first ? class->lists[at].head : class->lists[at].tail;
}

/* Charge the flow at *place* for a call that was granted or has ended: *ns* more than charged so far. */
static inline void rs_shed_charge(rs_shed_queue *queue, int64_t place, int64_t ns, int64_t quantum_ns)
{
    rs_shed_class *class = &queue->classes[rs_shed_level(place)];
    if (class->flows == NULL)
        return;
    rs_shed_flow *flow = &class->flows[rs_shed_list_of(place) / 2];
    int64_t most = RS_SHED_DEBT * quantum_ns, deficit = flow->deficit - ns;
    if (deficit > most || (deficit > 0 && flow->length == 0))
        deficit = flow->length == 0 ? 0 : most;
    flow->deficit = deficit < -most ? -most : deficit;
}

/* Move all waiters to a new queue, keeping classes and order; their tasks and tenants are lost. */
static inline void rs_shed_move(rs_shed_queue *from, rs_shed_queue *to)
{
    for (int i = 0; i < RS_SHED_CLASSES; i++)
        for (int32_t at = rs_shed_next_list(from, &from->classes[i], 0); at >= 0;
             at = rs_shed_next_list(from, &from->classes[i], 0)) {
            rs_waiter *waiter = from->classes[i].lists[at].head;
            int64_t since_ns = waiter->enqueued_ns;
            rs_shed_remove(from, waiter);
            rs_shed_push(to, waiter, rs_shed_place(i, to->lists - 1), since_ns);
        }
}
#endif
