/* The housekeeper: one native thread of a process for all its regions. Included once.
 *
 * It is not a Python thread: it beats while the interpreter is busy, gevent does not patch it, and a process that is
 * shut down does not wait for it. It starts with the process's first shared call, and again in a child of a fork with
 * the child's first. It needs the GIL for one thing, to report that a region has got another trouble.
 */
#ifndef RS_SHARED_HOUSEKEEPER_H
#define RS_SHARED_HOUSEKEEPER_H
#include "mapping.h"
#ifdef RS_FILES_POSSIBLE
#include <signal.h>
#endif

#define RS_BEAT_NS 250000000L
#define RS_HOUSE_STACK (2u << 20) /* the report runs Python code */

static struct {
    rs_mutex lock; /* of all below, and of the mappings; never held while the GIL is waited for */
    rs_mapping *first;
    int is_running;
    unsigned long thread; /* its identifier, if it runs */
    void (*report)(void); /* takes the GIL */
    uint64_t troubles;    /* as reported last: any change is a report */
} rs_house = {.lock = RS_MUTEX_FREE};

/* Keep all, and return a hash of their troubles (FNV-1a); of a file that is gone it differs each second. */
static uint64_t rs_house_keep_all(uint64_t beat)
{
    uint64_t troubles = UINT64_C(14695981039346656037);
    for (rs_mapping *mapping = rs_house.first; mapping; mapping = mapping->next) {
        rs_mapping_keep(mapping);
        uint64_t trouble = rs_atomic_load(&mapping->trouble);
        troubles = (troubles ^ (uint64_t)(uintptr_t)mapping) * UINT64_C(1099511628211);
        troubles = (troubles ^ (trouble == RS_GONE ? trouble + beat / 4 * 8 : trouble)) * UINT64_C(1099511628211);
    }
    return troubles;
}

__attribute__((unused)) static void *rs_house_run(void *unused)
{
    (void)unused;
    for (uint64_t beat = 0;; beat++) {
        rs_mutex_lock(&rs_house.lock);
        uint64_t troubles = rs_house_keep_all(beat);
        void (*report)(void) = troubles != rs_house.troubles ? rs_house.report : NULL;
        rs_house.troubles = troubles;
        rs_mutex_unlock(&rs_house.lock);
        if (report)
            report();
        rs_rest_ns(RS_BEAT_NS);
    }
    return NULL;
}

/* Start the thread unless it runs, with all signals blocked: those are the program's. Lock held. */
static int rs_house_start(void)
{
#ifdef RS_FILES_POSSIBLE
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    if (rs_house.is_running)
        return 0;
    if (pthread_attr_init(&attributes) != 0)
        return -1;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, RS_HOUSE_STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rs_house.is_running = pthread_create(&thread, &attributes, rs_house_run, NULL) == 0;
    rs_house.thread = rs_house.is_running ? (unsigned long)thread : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
#endif
    return rs_house.is_running ? 0 : -1;
}

/* The identifier of the thread, as Python counts it; 0: it does not run. */
static unsigned long rs_house_ident(void)
{
    rs_mutex_lock(&rs_house.lock);
    unsigned long ident = rs_house.is_running ? rs_house.thread : 0;
    rs_mutex_unlock(&rs_house.lock);
    return ident;
}

/* The first shared call of a process: a slot, and the housekeeper. `join` of a member. */
static uint32_t rs_house_join(rs_member *me)
{
    rs_mapping *mapping = (rs_mapping *)me;
    rs_mutex_lock(&rs_house.lock);
    uint32_t owner = rs_atomic_load(&me->owner);
    if (owner == 0 && me->join != NULL) {
        __atomic_store_n(&me->join, NULL, __ATOMIC_RELAXED); /* from now on it is the housekeeper's to try again */
        mapping->joined = 1;
        if (rs_house_start() < 0)
            rs_atomic_store(&mapping->trouble, RS_NO_THREAD);
        else if ((owner = rs_mapping_take_slot(mapping)) != 0)
            rs_member_take_roles(me, mapping->region, rs_monotonic_ns());
    }
    rs_mutex_unlock(&rs_house.lock);
    return owner;
}

static void rs_house_add(rs_mapping *mapping)
{
    rs_mutex_lock(&rs_house.lock);
    mapping->next = rs_house.first;
    rs_house.first = mapping;
    if (mapping->path)
        mapping->member.join = rs_house_join;
    rs_mutex_unlock(&rs_house.lock);
}

/* Leave the region and forget it; its memory stays until `rs_mapping_free`. */
static void rs_house_remove(rs_mapping *mapping)
{
    rs_mutex_lock(&rs_house.lock);
    for (rs_mapping **at = &rs_house.first; *at; at = &(*at)->next)
        if (*at == mapping) {
            *at = mapping->next;
            rs_mapping_leave(mapping);
            rs_mapping_close(mapping);
            break;
        }
    rs_mutex_unlock(&rs_house.lock);
}

static void rs_house_before_fork(void) { rs_mutex_lock(&rs_house.lock); }
static void rs_house_in_parent(void) { rs_mutex_unlock(&rs_house.lock); }

/* A child has no thread and no lock of a slot. Of a private region it has a copy, with what calls of the parent hold. */
static void rs_house_in_child(void)
{
    rs_mutex_renew(&rs_house.lock);
    rs_house.is_running = 0;
    for (rs_mapping *mapping = rs_house.first; mapping; mapping = mapping->next) {
        if (mapping->path) {
            rs_mapping_lose_slot(mapping, RS_SHARES);
            mapping->joined = 0;
            mapping->member.join = rs_house_join;
        }
        else
            for (uint32_t slot = 0; slot < RS_WORKERS; slot++)
                if (rs_atomic_load(&mapping->region->roll.living) >> slot & 1)
                    rs_region_reap(mapping->region, slot);
    }
}

static void rs_house_open(void (*report)(void))
{
    rs_house.report = report;
    rs_at_fork(rs_house_before_fork, rs_house_in_parent, rs_house_in_child);
}
#endif
