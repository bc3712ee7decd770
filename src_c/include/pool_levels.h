/* Which level of a pool takes the next call.
 *
 * A level takes all calls while enough of it is well; what it cannot take goes to the next one. Shares are whole
 * percent, as Envoy publishes them: a level's health is the share of its weight that is well, times the
 * overprovisioning factor, at most 100; each level takes its health, in order, until all is given away. Levels that
 * together have less than 100 share by their health.
 *
 * Source: Envoy, "Priority levels", whose tables are the tests.
 */
#ifndef RS_POOL_LEVELS_H
#define RS_POOL_LEVELS_H
#include <stdint.h>

#define RS_MOST_LEVELS 64

typedef struct rs_levels {
    int n;
    uint8_t load[RS_MOST_LEVELS];   /* percent of the calls; sums up to 100, or to 0 if nothing is well */
    int16_t credit[RS_MOST_LEVELS]; /* error diffusion: each level gets exactly its share, evenly */
} rs_levels;

/* The health of a level, from the weight that is well and the whole weight. */
static inline int rs_level_health(double well, double whole, double overprovision)
{
    if (!(whole > 0.0))
        return 0;
    double percent = 100.0 * overprovision * well / whole + 1e-9;
    return percent >= 100.0 ? 100 : (int)percent;
}

static inline void rs_levels_share(rs_levels *levels, const uint8_t *health)
{
    int total = 0, left = 100;
    for (int i = 0; i < levels->n; i++)
        total += health[i];
    if (total > 100)
        total = 100;
    for (int i = 0; i < levels->n; i++) {
        int load = total ? (200 * health[i] + total) / (2 * total) : 0; /* rounded */
        load = load < left ? load : left;
        levels->load[i] = (uint8_t)load;
        left -= load;
    }
    for (int i = 0; total && left && i < levels->n;
         i++) /* what rounding has left over, to the first level that is well */
        if (health[i]) {
            levels->load[i] = (uint8_t)(levels->load[i] + left);
            left = 0;
        }
}

/* The level of the next call. Nothing is well: the first one. */
static inline int rs_levels_draw(rs_levels *levels)
{
    if (levels->n <= 1 || levels->load[0] == 100)
        return 0;
    int chosen = 0;
    for (int i = 0; i < levels->n; i++) {
        levels->credit[i] = (int16_t)(levels->credit[i] + levels->load[i]);
        if (levels->credit[i] > levels->credit[chosen])
            chosen = i;
    }
    levels->credit[chosen] = (int16_t)(levels->credit[chosen] - 100);
    return chosen;
}
#endif
