/* A bucket, purses, a window and a table of keys. Prints what each has admitted. */
#include "threads.h"
#include "shared/rates.h"

enum { CALLS = 20000, BURST = 1000, LIMIT = 50, KEYS = 3 };

static rs_shared_bucket bucket, purses;
static struct {
    rs_shared_window window;
    rs_word64 entry[LIMIT];
} window;
static const rs_window_rule rule = {.period_ns = 1000, .limit = LIMIT};
static rs_tokens tokens = {.rate = (uint64_t)1 << RS_RATE_BITS, .burst = BURST};
static rs_keys keys = {.tokens = {.rate = (uint64_t)1 << RS_RATE_BITS, .burst = BURST}};
static rs_word64 sum_bucket, sum_purses, sum_window, sum_keys;

static void *worker(void *at)
{
    rs_purse purse = {0};
    rs_member member = member_of((uint32_t)(uintptr_t)at);
    uint64_t me = (uint64_t)(uintptr_t)at;
    for (int i = 0; i < CALLS; i++) {
        int64_t now_ns = i / 100; /* as many ns as give each a chance */
        if (rs_shared_take(&bucket, &tokens, now_ns, 1)) {
            if (i % 7 == 0)
                rs_shared_give_back(&bucket, 1);
            else
                atomic_fetch_add(&sum_bucket, 1);
        }
        else {
            rs_shared_join(&bucket, &tokens, now_ns, 1);
            rs_shared_leave(&bucket, 1);
        }
        atomic_fetch_add(&sum_purses, rs_purse_take(&purse, &purses, &tokens, now_ns, 1, &member));
        if (rs_window_take(&window.window, &rule, now_ns, 1)) {
            if (i % 7 == 0)
                rs_window_give_back(&window.window, &rule, now_ns, 1);
            else
                atomic_fetch_add(&sum_window, 1);
        }
        atomic_fetch_add(&sum_keys, rs_key_take(&keys, 1 + (me + (uint64_t)i) % KEYS, now_ns, 1));
    }
    return NULL;
}

int main(void)
{
    rs_keys_begin(&keys, 1, zeroes(rs_keys_size(1)));
    run(worker);
    printf("bucket %d\npurses %d\nwindow %d\nkeys %d\n", (int)sum_bucket, (int)sum_purses, (int)sum_window,
           (int)sum_keys);
    return 0;
}
