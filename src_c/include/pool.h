/* The endpoints of a pool, by place: which one a call goes to.
 *
 * All of it runs under the pool's lock, without Python and without allocation. A pick looks at the masks of the levels,
 * and at two endpoints. What changes the masks is rare: an endpoint comes or goes, is drained, is ejected or comes back.
 */
#ifndef RS_POOL_H
#define RS_POOL_H
#include <math.h>
#include "pool_levels.h"
#include "pool_pick.h"

#define RS_POOL_DRAWS 8           /* before a draw by weight looks at all endpoints */
#define RS_POOL_LOOK_NS 250000000 /* at least that often the gates of ejected endpoints are asked */
/* Between a probe that failed and the next one of another endpoint: a lost zone is lost as a whole. */
#define RS_POOL_PROBE_NS 1000000000

typedef enum { RS_BY_LATENCY = 0, RS_BY_INFLIGHT = 1, RS_BY_ORDER = 2 } rs_balance;

typedef struct rs_pool {
    rs_lock lock;
    rs_seat *seat[RS_MOST_PLACES];
    uint64_t places;                   /* in use */
    uint64_t drained;                  /* of these, not to be chosen */
    uint64_t ejected;                  /* of these, whose gates let nothing pass */
    uint64_t due;                      /* of these, whose gates let nothing pass but a probe */
    uint64_t leaving;                  /* whose gates have been allowed to eject them, and have not reported it yet */
    uint64_t of_level[RS_MOST_LEVELS]; /* by rank */
    uint8_t order[RS_MOST_PLACES];     /* places to draw from, by level: those that are well, or all if none is */
    uint8_t start[RS_MOST_LEVELS + 1]; /* of each level in `order` */
    double heaviest[RS_MOST_LEVELS];   /* weight of these, of each level */
    uint64_t of_zone[256];             /* by number; 0: no zone */
    rs_levels levels;
    int64_t look_ns;  /* when the gates of ejected endpoints are asked next */
    int64_t probe_ns; /* before this time no call probes, if another endpoint is well */
    uint64_t hopeful; /* to be probed as soon as they are due, since another one is back */
    double overprovision;
    int64_t warm_up_ns; /* 0: none */
    uint64_t random;
    uint8_t balance;    /* rs_balance */
    double max_ejected; /* the share of the weight that statistics may eject */
    uint8_t spill;
    double row;        /* failures since the latest success of any endpoint */
    uint64_t with_key; /* calls whose key has an endpoint of its own */
    uint64_t at_home;  /* of these, sent there at once */
    double mean_row;   /* of the rows before */
} rs_pool;

static inline uint64_t rs_bit(int place) { return 1ull << place; }
static inline int rs_first(uint64_t places) { return __builtin_ctzll(places); }

/* Source: Vigna, "An experimental exploration of Marsaglia's xorshift generators". */
static inline uint64_t rs_pool_random(rs_pool *pool)
{
    pool->random ^= pool->random >> 12;
    pool->random ^= pool->random << 25;
    pool->random ^= pool->random >> 27;
    return pool->random * 0x2545F4914F6CDD1Dull;
}

static inline double rs_pool_uniform(rs_pool *pool)
{
    return (double)(rs_pool_random(pool) >> 11) * (1.0 / 9007199254740992.0);
}

/* ---- the shares of the levels --------------------------------------------------------------------------------- */

/* The share of its full weight that an endpoint may have now: it rises while it warms up. */
static inline double rs_pool_warmth(const rs_pool *pool, const rs_seat *seat, int64_t now_ns)
{
    if (pool->warm_up_ns == 0 || seat->joined_ns == 0)
        return 1.0;
    double share = (double)(now_ns - seat->joined_ns) / (double)pool->warm_up_ns;
    return share >= 1.0 ? 1.0 : share > 0.1 ? share : 0.1;
}

static inline void rs_pool_share_out(rs_pool *pool)
{
    uint8_t health[RS_MOST_LEVELS];
    for (int level = 0; level < pool->levels.n; level++) {
        double well = 0.0, whole = 0.0;
        for (uint64_t left = pool->of_level[level] & ~pool->drained; left; left &= left - 1) {
            const rs_seat *seat = pool->seat[rs_first(left)];
            whole += seat->weight;
            well += seat->weight * seat->share;
        }
        health[level] = (uint8_t)rs_level_health(well, whole, pool->overprovision);
    }
    rs_levels_share(&pool->levels, health);
}

/* List the places that a pick draws from, so that it finds few that are ejected. */
static inline void rs_pool_list(rs_pool *pool)
{
    uint8_t at = 0;
    for (int level = 0; level < pool->levels.n; level++) {
        uint64_t all = pool->of_level[level], well = all & ~pool->drained & ~pool->ejected;
        pool->start[level] = at;
        pool->heaviest[level] = 0.0;
        for (uint64_t left = well ? well : all; left; left &= left - 1) {
            int place = rs_first(left);
            double weight = pool->seat[place]->weight;
            pool->order[at++] = (uint8_t)place;
            if (weight > pool->heaviest[level])
                pool->heaviest[level] = weight;
        }
    }
    pool->start[pool->levels.n] = at;
}

/* ---- ejection and return -------------------------------------------------------------------------------------- */

static inline int rs_pool_has(const rs_pool *pool, const rs_seat *seat)
{
    return pool->places & rs_bit(seat->place) && pool->seat[seat->place] == seat;
}

/* Endpoints that fail together are often back together: those of a lost zone need not all be probed at their own times.
   One that failed its probe holds those of the others for a while; one that is back lets the others follow at once. */
static inline void rs_pool_probed(rs_pool *pool, uint64_t bit, double share, int is_open, int64_t now_ns)
{
    uint64_t out = pool->ejected | pool->due;
    if (share == 0.0 && is_open && (pool->due & bit)) {
        pool->probe_ns = out & ~bit ? now_ns + RS_POOL_PROBE_NS : 0;
        pool->hopeful = 0;
    }
    else if (share != 0.0 && (out & bit)) {
        pool->probe_ns = 0;
        pool->hopeful = out & ~bit;
    }
}

/* Take over what the gates of an endpoint let pass. Returns 1 if that has changed. */
static inline int rs_pool_set_share(rs_pool *pool, rs_seat *seat, double share, int64_t until_ns, int64_t now_ns)
{
    uint64_t bit = rs_bit(seat->place), before = pool->ejected;
    int was_out = seat->share == 0.0;
    if (!rs_pool_has(pool, seat)) /* a call ends at an endpoint that is gone, whose place another one may have */
        return 0;
    if (share == 0.0) {
        int64_t latest = now_ns + RS_POOL_LOOK_NS;
        seat->look_ns = until_ns > now_ns && until_ns < latest ? until_ns : latest;
        if (seat->look_ns < pool->look_ns || (pool->ejected | pool->due) == 0)
            pool->look_ns = seat->look_ns;
        seat->owes = 1;
    }
    pool->leaving &= ~bit;
    rs_pool_probed(pool, bit, share, until_ns > now_ns, now_ns);
    /* Past its open time it may be chosen: one call will probe. */
    pool->ejected = share == 0.0 && until_ns > now_ns ? pool->ejected | bit : pool->ejected & ~bit;
    pool->due = share == 0.0 && until_ns <= now_ns ? pool->due | bit : pool->due & ~bit;
    if (pool->ejected != before)
        rs_pool_list(pool);
    if (share == seat->share)
        return 0;
    rs_put(&seat->share, share);
    if (was_out && pool->warm_up_ns)
        seat->joined_ns = now_ns;
    rs_pool_share_out(pool);
    return 1;
}

/* When the gates of ejected endpoints must be asked again, and of one for which that time has come; NULL: none. */
static inline rs_seat *rs_pool_to_look_at(rs_pool *pool, int64_t now_ns)
{
    pool->look_ns = RS_NEVER;
    for (uint64_t left = pool->ejected | pool->due; left; left &= left - 1) {
        rs_seat *seat = pool->seat[rs_first(left)];
        if (seat->look_ns <= now_ns)
            return seat;
        if (seat->look_ns < pool->look_ns)
            pool->look_ns = seat->look_ns;
    }
    return NULL;
}

/* The median of the latencies of successes; 0: none is known. */
static inline double rs_pool_median(const rs_pool *pool)
{
    double known[RS_MOST_PLACES];
    int n = 0;
    for (uint64_t left = pool->places; left; left &= left - 1) {
        double good_ns = rs_peek(&pool->seat[rs_first(left)]->good_ns);
        if (good_ns == 0.0)
            continue;
        int at = n++;
        for (; at > 0 && known[at - 1] > good_ns; at--)
            known[at] = known[at - 1];
        known[at] = good_ns;
    }
    return n ? known[n / 2] : 0.0;
}

/* A call was answered by this endpoint and not served: it teaches the median, or costs as much as a failure if that happens
   there far more often than elsewhere. The seat's lock is held too. */
static inline void rs_pool_unserved(const rs_pool *pool, rs_seat *seat, int64_t now_ns)
{
    double price_ns = rs_pool_median(pool), others = 0.0;
    int n = 0;
    for (uint64_t left = pool->places & ~pool->drained; left; left &= left - 1) {
        const rs_seat *one = pool->seat[rs_first(left)];
        if (one != seat) {
            others += rs_peek(&one->unserved);
            n++;
        }
    }
    rs_put(&seat->unserved, seat->unserved + (1.0 - seat->unserved) * RS_POOL_UNSERVED);
    if (n && seat->unserved > others / n + RS_POOL_FAR_ABOVE)
        price_ns *= RS_POOL_PRICE;
    rs_seat_charge(seat, price_ns, now_ns);
}

/* ---- a pick --------------------------------------------------------------------------------------------------- */

/* An endpoint among *among*, places of one level, at random by weight. */
static inline rs_seat *rs_pool_draw_all(rs_pool *pool, uint64_t among, int64_t now_ns)
{
    double sum = 0.0;
    for (uint64_t left = among; left; left &= left - 1) {
        const rs_seat *seat = pool->seat[rs_first(left)];
        sum += seat->weight * rs_pool_warmth(pool, seat, now_ns);
    }
    double at = rs_pool_uniform(pool) * sum;
    for (uint64_t left = among; left; left &= left - 1) {
        rs_seat *seat = pool->seat[rs_first(left)];
        at -= seat->weight * rs_pool_warmth(pool, seat, now_ns);
        if (at < 0.0 || (left & (left - 1)) == 0)
            return seat;
    }
    return NULL;
}

/* The same, by rejection: exact, and O(1) while most of those that are well may be chosen. */
static inline rs_seat *rs_pool_draw(rs_pool *pool, int level, uint64_t among, int64_t now_ns)
{
    uint32_t start = pool->start[level], n = pool->start[level + 1] - start;
    for (int tries = 0; tries < RS_POOL_DRAWS; tries++) {
        uint64_t random = rs_pool_random(pool);
        int place = pool->order[start + (uint32_t)((random >> 32) * n >> 32)];
        if (!(among & rs_bit(place)))
            continue;
        rs_seat *seat = pool->seat[place];
        double weight = seat->weight * rs_pool_warmth(pool, seat, now_ns);
        if (weight >= pool->heaviest[level] || (double)(uint32_t)random < weight / pool->heaviest[level] * 4294967296.0)
            return seat;
    }
    return rs_pool_draw_all(pool, among, now_ns);
}

static inline double rs_pool_cost(const rs_pool *pool, const rs_seat *seat, int64_t now_ns)
{
    return pool->balance == RS_BY_LATENCY ? rs_seat_cost(seat, now_ns)
                                          : (double)(rs_seat_inflight(seat) + 1) / seat->weight;
}

/* ---- affinity: calls of one key go to one endpoint ---------------------------------------------------------------- */

/* An endpoint has at most this many means of the calls in flight, by weight, so that one hot key fills no server. */
#define RS_POOL_LOAD 1.25

/* The rank of an endpoint for a key: the highest is the key's own. One that comes takes its share of the keys, one that
   goes leaves its keys to others, and no other key moves.

   Source: weighted rendezvous hashing (Schindelhauer and Schomaker, 2005); mixing: splitmix64 (Steele et al., 2014). */
static inline double rs_pool_rank(const rs_seat *seat, double weight, uint64_t key)
{
    uint64_t mixed = (key ^ seat->name) + 0x9E3779B97F4A7C15ull;
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9ull;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBull;
    mixed ^= mixed >> 31;
    return -weight / log(((double)(mixed >> 11) + 0.5) * (1.0 / 9007199254740992.0));
}

/* The first endpoint in the order of a key. *most*: calls in flight that one may have for its weight, this one included. */
static inline rs_seat *rs_pool_first_of(const rs_pool *pool, uint64_t among, uint64_t key, double most, int64_t now_ns)
{
    rs_seat *first = NULL;
    double highest = 0.0;
    for (uint64_t left = among; left; left &= left - 1) {
        rs_seat *seat = pool->seat[rs_first(left)];
        double weight = seat->weight * rs_pool_warmth(pool, seat, now_ns);
        if ((double)(rs_seat_inflight(seat) + 1) > ceil(most * weight))
            continue;
        double rank = rs_pool_rank(seat, weight, key);
        if (first == NULL || rank > highest) {
            first = seat;
            highest = rank;
        }
    }
    return first;
}

/* Of *among*, places of one level, the key's own endpoint, or the next one in its order that is not too busy.

   Source: Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", 2018. */
static inline rs_seat *rs_pool_pick_by_key(rs_pool *pool, int level, uint64_t among, const rs_choice *choice)
{
    uint64_t in_use = pool->of_level[level] & ~pool->drained;
    double calls = 1.0, weight = 0.0;
    for (uint64_t left = in_use & ~pool->ejected; left; left &= left - 1) {
        const rs_seat *seat = pool->seat[rs_first(left)];
        calls += (double)rs_seat_inflight(seat);
        weight += seat->weight * rs_pool_warmth(pool, seat, choice->now_ns);
    }
    double most = weight > 0.0 ? RS_POOL_LOAD * calls / weight : INFINITY;
    rs_seat *seat = rs_pool_first_of(pool, among, choice->key, most, choice->now_ns);
    if (seat == NULL) /* the others of the level have been tried, or reject it */
        seat = rs_pool_first_of(pool, among, choice->key, INFINITY, choice->now_ns);
    if (choice->tried == 0 && choice->rejected == 0) {
        pool->with_key++;
        pool->at_home += seat == rs_pool_first_of(pool, in_use, choice->key, INFINITY, choice->now_ns);
    }
    return seat;
}

static inline rs_seat *rs_pool_pick(rs_pool *pool, int level, uint64_t among, const rs_choice *choice)
{
    int64_t now_ns = choice->now_ns;
    if (choice->key)
        return rs_pool_pick_by_key(pool, level, among, choice);
    if ((among & (among - 1)) == 0 || pool->balance == RS_BY_ORDER)
        return pool->seat[rs_first(among)];
    rs_seat *one = rs_pool_draw(pool, level, among, now_ns);
    rs_seat *other = rs_pool_draw(pool, level, among & ~rs_bit(one->place), now_ns);
    return rs_pool_cost(pool, other, now_ns) < rs_pool_cost(pool, one, now_ns) ? other : one;
}

/* The places in the zones of those that were tried. */
static inline uint64_t rs_pool_same_zones(const rs_pool *pool, uint64_t tried)
{
    uint64_t same = 0;
    for (uint64_t left = tried & pool->places; left; left &= left - 1)
        same |= pool->of_zone[pool->seat[rs_first(left)]->zone];
    return same;
}

/* Return 1 if the latest calls to most of these endpoints have failed. */
static inline int rs_pool_most_failed(const rs_pool *pool, uint64_t places)
{
    int failed = 0;
    for (uint64_t left = places; left; left &= left - 1)
        failed += __atomic_load_n(&pool->seat[rs_first(left)]->failed, __ATOMIC_RELAXED);
    return 2 * failed > __builtin_popcountll(places);
}

/* Of *among* an endpoint that waits for a probe which the shares of the levels, or its price, would not bring; NULL: none.
   A random one: if it fails, another one has its turn. */
static inline rs_seat *rs_pool_left_out(rs_pool *pool, uint64_t among, int64_t now_ns)
{
    uint64_t found = 0;
    for (uint64_t left = among & pool->due; left; left &= left - 1) {
        const rs_seat *seat = pool->seat[rs_first(left)];
        int waits = pool->levels.load[seat->level] == 0 || (pool->hopeful & rs_bit(seat->place))
                    || rs_seat_is_forgiven(seat, now_ns);
        found |= waits && rs_seat_inflight(seat) == 0 ? rs_bit(seat->place) : 0;
    }
    return found ? rs_pool_draw_all(pool, found, now_ns) : NULL;
}

static inline rs_seat *rs_pool_in_levels(rs_pool *pool, const rs_choice *choice, uint64_t among)
{
    int n = pool->spill ? pool->levels.n : 1;
    for (int i = 0; i < n; i++) {
        int level = (choice->level + i) % pool->levels.n;
        uint64_t here = among & pool->of_level[level];
        if (here)
            return rs_pool_pick(pool, level, here, choice);
    }
    return NULL;
}

/* An endpoint among *among*. After an attempt elsewhere it is in another zone if there is one in the same level; and in
   any level if most of the zone that was tried fails, since all of a level may be one zone. */
static inline rs_seat *rs_pool_among(rs_pool *pool, rs_choice *choice, uint64_t among)
{
    uint64_t same = choice->tried ? rs_pool_same_zones(pool, choice->tried) : 0, others = among & ~same;
    if (others == among || others == 0)
        return rs_pool_in_levels(pool, choice, among);
    int level = choice->level;
    if (others & pool->of_level[level] || rs_pool_most_failed(pool, same))
        return rs_pool_in_levels(pool, choice, others);
    return rs_pool_in_levels(pool, choice, among);
}

/* Of *well* those that this call may go to: a call that another endpoint has failed probes none, nor does a copy. */
static inline uint64_t rs_pool_unprobed(const rs_pool *pool, uint64_t well, const rs_choice *choice)
{
    int probes = choice->tried == 0 && !choice->hedge && choice->now_ns >= pool->probe_ns;
    uint64_t sure = well & ~pool->due;
    return probes || (sure & ~choice->tried) == 0 ? well : sure;
}

/* The seat of the endpoint for a call; NULL: there is none left. */
static inline rs_seat *rs_pool_choose(rs_pool *pool, rs_choice *choice)
{
    uint64_t usable = pool->places & ~pool->drained & ~choice->rejected, well = usable & ~pool->ejected;
    rs_seat *seat = NULL;
    choice->place = -1;
    if (usable == 0)
        return NULL;
    if (well & pool->due)
        well = rs_pool_unprobed(pool, well, choice);
    if (choice->level < 0) {
        seat = rs_pool_left_out(pool, well & ~choice->tried, choice->now_ns);
        choice->level = (int16_t)(seat ? seat->level : rs_levels_draw(&pool->levels));
    }
    if (seat == NULL && well & ~choice->tried)
        seat = rs_pool_among(pool, choice, well & ~choice->tried);
    if (seat == NULL && well)
        seat = rs_pool_among(pool, choice, well); /* all have been tried */
    if (seat == NULL)
        seat = rs_pool_among(pool, choice, usable); /* nothing is well: until when is up to their gates */
    if (seat)
        choice->place = (int8_t)seat->place;
    return seat;
}
#endif
