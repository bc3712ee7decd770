/* The endpoints of a pool change: all are replaced at once, and those that stay keep their latencies and states. */
#ifndef RS_POOL_ARRANGE_H
#define RS_POOL_ARRANGE_H
#include <string.h>
#include "pool.h"

typedef struct rs_row {
    rs_seat *seat;
    double weight;
    int place, level, zone, drained;
} rs_row;

/* Add the next endpoint, in the order of the levels. */
static inline void rs_pool_add(rs_pool *pool, const rs_row *row)
{
    uint64_t bit = rs_bit(row->place);
    if (pool->seat[row->place] != row->seat) { /* another one had its place */
        pool->ejected &= ~bit;
        pool->due &= ~bit;
        pool->leaving &= ~bit;
    }
    if (row->seat->place != row->place) /* only before calls can come to it, which read it without this lock */
        row->seat->place = (uint8_t)row->place;
    row->seat->level = (uint8_t)row->level;
    row->seat->zone = (uint8_t)row->zone;
    row->seat->weight = row->weight;
    pool->seat[row->place] = row->seat;
    pool->places |= bit;
    pool->drained |= row->drained ? bit : 0;
    pool->of_level[row->level] |= bit;
    if (row->zone)
        pool->of_zone[row->zone] |= bit;
    if (pool->levels.n <= row->level)
        pool->levels.n = row->level + 1;
}

/* Replace all endpoints by *n* rows, in the order of their levels. Lock held. */
static inline void rs_pool_arrange(rs_pool *pool, const rs_row *rows, int n)
{
    pool->places = pool->drained = 0;
    pool->levels.n = 0;
    memset(pool->of_level, 0, sizeof pool->of_level);
    memset(pool->of_zone, 0, sizeof pool->of_zone);
    memset(pool->levels.credit, 0, sizeof pool->levels.credit);
    for (int i = 0; i < n; i++)
        rs_pool_add(pool, &rows[i]);
    for (int place = 0; place < RS_MOST_PLACES; place++)
        if (!(pool->places & rs_bit(place)))
            pool->seat[place] = NULL;
    pool->ejected &= pool->places;
    pool->due &= pool->places;
    pool->leaving &= pool->places;
    pool->hopeful &= pool->places;
    rs_pool_list(pool);
    rs_pool_share_out(pool);
}
#endif
