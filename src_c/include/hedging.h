/* When a hedge may start: how long the primary may take, and the guards that keep hedges from doing harm.
 *
 *   law          latency of a primary that is not cancelled. A primary stopped while it ran (its hedge won, or its
 *                time was up) is only known to take longer: the Kaplan-Meier estimate uses exactly that
 *   cap          each call pays in max_extra of a hedge, a hedge costs one: hedges <= max_extra * calls, always
 *   unmeasured   too few samples for the quantile, or none at all: nothing starts
 *   failing      a quarter of the last primaries failed or were rejected: more of the same does not help
 *   saturated    recent calls take more than twice the best latency: servers queue, and hedges feed the queue
 *   losing       below 0.3 of the last hedges won: the copies are slow for the same reason. One in 20 still starts
 *
 * docs/explanation/hedging-rules.md gives the reasons, and the alternatives to each constant. No Python.h: pages of the histograms
 * come from calloc, which may run inside a locked section. Nothing here is atomic; the owner locks.
 *
 * Source: Dean and Barroso, "The Tail at Scale", CACM 2013; Kaplan and Meier, JASA 1958; Robbins and Monro 1951.
 */
#ifndef RS_HEDGING_H
#define RS_HEDGING_H
#include "loglinear.h"

#ifndef RS_HEDGING_TUNED /* a study may bring its own */
/* Ten are for one client of a thousand calls a second whose server pauses. A hundred small clients with ten each would
 * send a second's worth of work at once when that hurts most, so savings beyond two fade. */
#define RS_HEDGING_BURST 10                      /* hedges that calls without one save up, at most */
#define RS_HEDGING_KEPT 2                        /* saved hedges that keep; those beyond them fade */
#define RS_HEDGING_FADE_NS INT64_C(1000000000)   /* with this time constant */
#define RS_HEDGING_EPOCH_NS INT64_C(10000000000) /* the law's samples lose half of their weight after this time */
#define RS_HEDGING_EPOCH_CALLS 2048              /* and this number of calls, both */
#define RS_HEDGING_REFRESH 64                    /* calls between two updates of the law, at least */
/* With one memory for both, hedges of which 40 % win would be off half of the time. */
#define RS_HEDGING_WINS 64                      /* hedges that the share of wins remembers */
#define RS_HEDGING_EXPLORED 16                  /* the same while hedges lose: few start */
#define RS_HEDGING_LOSING 30                    /* percent */
#define RS_HEDGING_EXPLORE 20                   /* one would-be hedge in this number starts all the same */
#define RS_HEDGING_FAILURES 32                  /* primaries that the share of failures remembers */
#define RS_HEDGING_FAILING 25                   /* percent */
#define RS_HEDGING_RECENT 64                    /* calls that the recent median remembers */
#define RS_HEDGING_STEADY 256                   /* calls that the steady median remembers; its least is the baseline */
#define RS_HEDGING_SLOWER 2                     /* times the baseline */
#define RS_HEDGING_UNNOTICED_NS 1000            /* a smaller difference in ns does not count */
#define RS_HEDGING_AGE_NS INT64_C(600000000000) /* time constant with which the baseline rises */
#endif

#define RS_HEDGING_WEIGHT 64              /* of a new sample: after six epochs 1 is left */
#define RS_HEDGING_ONE (INT64_C(1) << 32) /* a hedge, in the cap's fixed point */
#define RS_HEDGING_SHARE (1 << 16)        /* 1.0, as a share */
#define RS_HEDGING_PRIOR 4                /* wins assumed before the first hedge */
#define RS_HEDGING_NEVER INT64_MAX

enum { /* answers of rs_hedging_may; each is counted */
       RS_HEDGING_GO,
       RS_HEDGING_UNMEASURED,
       RS_HEDGING_FAILING_NOW,
       RS_HEDGING_SATURATED,
       RS_HEDGING_LOSING_NOW,
       RS_HEDGING_CAPPED,
       RS_HEDGING_ANSWERS
};

typedef struct rs_hedging {
    double quantile;                        /* of the law, below 1; 0: the delay is fixed */
    int64_t fixed_ns, least_ns, most_ns;    /* the fixed delay; the bounds of a learned one */
    int64_t max_extra;                      /* of RS_HEDGING_ONE: payment of each call */
    int64_t needed;                         /* samples before anything starts */
    rs_histogram ended, stopped;            /* latencies of primaries; times at which others were stopped */
    int64_t delay_ns;                       /* before a hedge; RS_HEDGING_NEVER while unmeasured */
    int64_t samples, epoch_samples, unseen; /* ever; of this epoch; since the last update of the delay */
    int64_t epoch_ns;
    int64_t recent_ns, steady_ns; /* medians */
    int64_t baseline_ns, aged_ns; /* the least steady median; when it was last aged */
    int64_t tokens, paid_ns;      /* of RS_HEDGING_ONE; when the last call paid in */
    int32_t won, failed;          /* shares */
    int32_t verdicts, held;       /* hedges judged (saturates); would-be starts since the last exploring one */
    uint64_t answers[RS_HEDGING_ANSWERS];
} rs_hedging;

/* Initialise without any knowledge. *quantile* in (0, 1), or 0 for *fixed_ns*; *max_extra* in hedges a call. */
static inline void rs_hedging_init(rs_hedging *hedging, double quantile, int64_t fixed_ns, double max_extra)
{
    memset(hedging, 0, sizeof *hedging);
    rs_histogram_init(&hedging->ended);
    rs_histogram_init(&hedging->stopped);
    hedging->quantile = quantile;
    hedging->fixed_ns = fixed_ns;
    hedging->most_ns = RS_HEDGING_NEVER;
    hedging->max_extra = (int64_t)(max_extra * (double)RS_HEDGING_ONE);
    hedging->needed = quantile > 0.9 ? (int64_t)(2 / (1 - quantile) + 0.5) : 20;
    hedging->delay_ns = RS_HEDGING_NEVER;
    hedging->won = RS_HEDGING_SHARE;
    hedging->verdicts = RS_HEDGING_PRIOR;
}

static inline void rs_hedging_free(rs_hedging *hedging)
{
    rs_histogram_free(&hedging->ended);
    rs_histogram_free(&hedging->stopped);
}

/* Forget the law, the baselines and the calls' payments; options and counts stay. */
static inline void rs_hedging_reset(rs_hedging *hedging)
{
    rs_hedging kept = *hedging;
    rs_hedging_free(hedging);
    rs_hedging_init(hedging, kept.quantile, kept.fixed_ns, 0.0);
    hedging->least_ns = kept.least_ns;
    hedging->most_ns = kept.most_ns;
    hedging->max_extra = kept.max_extra;
    hedging->needed = kept.needed;
    memcpy(hedging->answers, kept.answers, sizeof kept.answers);
}

static inline uint64_t rs_hedging_weight(const rs_histogram *histogram, int page)
{
    return histogram->page[page] ? histogram->page[page]->total : 0;
}

static inline uint64_t rs_hedging_cell(const rs_histogram *histogram, int page, int cell)
{
    return histogram->page[page] ? rs_histogram_cell(histogram->page[page], cell) : 0;
}

/* The cell in *page* where the law's tail falls to *share*; or -1, with *tail and *risk moved behind the page. Stop
 * times come after the ends in the same cell. */
static inline int rs_hedging_fall(const rs_hedging *hedging, int page, double share, double *tail, uint64_t *risk)
{
    for (int cell = 0; cell < RS_HISTOGRAM_CELLS; cell++) {
        uint64_t ended = rs_hedging_cell(&hedging->ended, page, cell);
        if (ended) {
            *tail *= (double)(*risk - ended) / (double)*risk;
            if (*tail <= share)
                return cell;
        }
        *risk -= ended + rs_hedging_cell(&hedging->stopped, page, cell);
    }
    return -1;
}

/* The longest time in *page*, which is not empty. */
static inline int64_t rs_hedging_longest(const rs_hedging *hedging, int page)
{
    int last = RS_HISTOGRAM_CELLS - 1;
    while (rs_hedging_cell(&hedging->ended, page, last) + rs_hedging_cell(&hedging->stopped, page, last) == 0)
        last--;
    return rs_histogram_middle(page, last);
}

/* The law's quantile in ns; the longest time seen if the law is unknown that far out; -1 without samples. A page
 * without stopped primaries is passed in one step: its factors telescope. */
static inline int64_t rs_hedging_quantile(const rs_hedging *hedging, double quantile)
{
    double tail = 1, share = (1 - quantile) * (1 + 1e-12);
    uint64_t risk = hedging->ended.count + hedging->stopped.count;
    int longest = -1;
    for (int page = 0; page < RS_HISTOGRAM_PAGES && risk; page++) {
        uint64_t ended = rs_hedging_weight(&hedging->ended, page), stopped = rs_hedging_weight(&hedging->stopped, page);
        if (ended + stopped == 0)
            continue;
        double behind = tail * (double)(risk - ended) / (double)risk;
        if (stopped == 0 && behind > share) {
            tail = behind;
            risk -= ended;
            longest = page;
            continue;
        }
        int cell = rs_hedging_fall(hedging, page, share, &tail, &risk);
        if (cell >= 0)
            return rs_histogram_middle(page, cell);
        longest = page;
    }
    return longest < 0 ? -1 : rs_hedging_longest(hedging, longest);
}

/* Halve all weights. */
static inline void rs_hedging_halve(rs_histogram *histogram)
{
    histogram->count = 0;
    for (int p = 0; p < RS_HISTOGRAM_PAGES; p++) {
        rs_histogram_page *page = histogram->page[p];
        if (page == NULL)
            continue;
        page->total = 0;
        for (int cell = 0; cell < RS_HISTOGRAM_CELLS; cell++) {
            uint64_t half = rs_histogram_cell(page, cell) >> 1;
            page->low[cell] = (uint32_t)half;
            if (page->high)
                page->high[cell] = (uint32_t)(half >> 32);
            page->total += half;
        }
        histogram->count += page->total;
    }
}

/* Rare, and so apart: inlined, it would cost each sample registers to save. */
static __attribute__((noinline)) void rs_hedging_refresh(rs_hedging *hedging)
{
    hedging->unseen = 0;
    if (hedging->quantile <= 0) {
        hedging->delay_ns = hedging->fixed_ns;
        return;
    }
    int64_t ns = rs_hedging_quantile(hedging, hedging->quantile);
    if (ns < hedging->least_ns)
        ns = hedging->least_ns;
    hedging->delay_ns = ns < hedging->most_ns ? ns : hedging->most_ns;
}

/* Update a running median: a sample above it raises it by 1/n, one below lowers it by 1/n. With fewer than n
 * samples the steps are larger. */
static inline int64_t rs_hedging_follow(int64_t median_ns, int64_t ns, int stopped, int64_t samples, int64_t n)
{
    /* n is a constant here: no division. */
    int64_t step = (samples < n ? median_ns / (samples + 1) : median_ns / n) + 1;
    if (ns > median_ns)
        return median_ns + step;
    return stopped || median_ns <= step ? median_ns : median_ns - step;
}

static inline void rs_hedging_age(rs_hedging *hedging, int64_t now_ns)
{
    int64_t since = now_ns - hedging->aged_ns;
    if (hedging->steady_ns <= hedging->baseline_ns)
        hedging->baseline_ns = hedging->steady_ns;
    else if (since < RS_HEDGING_AGE_NS / 1024)
        return;
    else {
        double part = since < RS_HEDGING_AGE_NS ? (double)since / (double)RS_HEDGING_AGE_NS : 1;
        hedging->baseline_ns += (int64_t)(part * (double)(hedging->steady_ns - hedging->baseline_ns));
    }
    hedging->aged_ns = now_ns;
}

static inline void rs_hedging_medians(rs_hedging *hedging, int64_t ns, int stopped, int64_t now_ns)
{
    int64_t samples = hedging->samples;
    if (samples == 1)
        hedging->recent_ns = hedging->steady_ns = ns;
    hedging->recent_ns = rs_hedging_follow(hedging->recent_ns, ns, stopped, samples, RS_HEDGING_RECENT);
    hedging->steady_ns = rs_hedging_follow(hedging->steady_ns, ns, stopped, samples, RS_HEDGING_STEADY);
    if (samples == hedging->needed) {
        hedging->baseline_ns = hedging->steady_ns;
        hedging->aged_ns = now_ns;
    }
    else if (samples > hedging->needed)
        rs_hedging_age(hedging, now_ns);
}

static __attribute__((noinline)) void rs_hedging_next_epoch(rs_hedging *hedging, int64_t now_ns)
{
    rs_hedging_halve(&hedging->ended);
    rs_hedging_halve(&hedging->stopped);
    hedging->epoch_samples = 0;
    hedging->epoch_ns = now_ns;
}

/* Return 1 if the law needs an update: after a sixteenth of new samples, and at least 64. */
static inline int rs_hedging_stale(const rs_hedging *hedging)
{
    uint64_t weight = (hedging->ended.count + hedging->stopped.count) / RS_HEDGING_WEIGHT;
    if (hedging->samples <= hedging->needed)
        return hedging->samples == hedging->needed;
    return hedging->unseen >= RS_HEDGING_REFRESH && (uint64_t)hedging->unseen >= weight / 16;
}

/* Record a primary that took *ns*; or that we *stopped* then, so that it would have taken
   longer. Not for a failed one. */
static inline void rs_hedging_sample(rs_hedging *hedging, int64_t ns, int stopped, int64_t now_ns)
{
    if (hedging->samples++ == 0)
        hedging->epoch_ns = now_ns;
    hedging->unseen++;
    hedging->epoch_samples++;
    rs_histogram_record_n(stopped ? &hedging->stopped : &hedging->ended, ns, RS_HEDGING_WEIGHT);
    rs_hedging_medians(hedging, ns, stopped, now_ns);
    if (hedging->epoch_samples >= RS_HEDGING_EPOCH_CALLS && now_ns - hedging->epoch_ns >= RS_HEDGING_EPOCH_NS)
        rs_hedging_next_epoch(hedging, now_ns);
    if (rs_hedging_stale(hedging))
        rs_hedging_refresh(hedging);
}

/* Record that a primary failed or was rejected (1), or neither (0). If cancelled from outside:
   neither this nor a sample. */
static inline void rs_hedging_outcome(rs_hedging *hedging, int failed)
{
    hedging->failed += ((failed ? RS_HEDGING_SHARE : 0) - hedging->failed) / RS_HEDGING_FAILURES;
}

static inline int rs_hedging_loses(const rs_hedging *hedging)
{
    return hedging->won < RS_HEDGING_LOSING * RS_HEDGING_SHARE / 100;
}

/* Record the end of a hedge: its result became the call's (1), or not (0). Not if cancelled from outside. */
static inline void rs_hedging_verdict(rs_hedging *hedging, int won)
{
    int32_t n = rs_hedging_loses(hedging) ? RS_HEDGING_EXPLORED : RS_HEDGING_WINS;
    hedging->verdicts += hedging->verdicts < RS_HEDGING_WINS;
    if (n > hedging->verdicts)
        n = hedging->verdicts;
    hedging->won += ((won ? RS_HEDGING_SHARE : 0) - hedging->won) / n;
}

/* The faded part of hedges saved beyond RS_HEDGING_KEPT: a fleet of small clients must not save up a flood. */
static inline int64_t rs_hedging_faded(const rs_hedging *hedging, int64_t now_ns)
{
    int64_t beyond = hedging->tokens - RS_HEDGING_KEPT * RS_HEDGING_ONE, since = now_ns - hedging->paid_ns;
    if (beyond <= 0 || since <= 0)
        return 0;
    return since < RS_HEDGING_FADE_NS ? beyond * (since >> 10) / (RS_HEDGING_FADE_NS >> 10) : beyond;
}

/* Pay in for a call that begins. */
static inline void rs_hedging_begin(rs_hedging *hedging, int64_t now_ns)
{
    int64_t most = RS_HEDGING_BURST * RS_HEDGING_ONE, tokens = hedging->tokens - rs_hedging_faded(hedging, now_ns);
    hedging->tokens = tokens < most - hedging->max_extra ? tokens + hedging->max_extra : most;
    hedging->paid_ns = now_ns;
}

static inline int rs_hedging_answer(rs_hedging *hedging)
{
    if (hedging->delay_ns == RS_HEDGING_NEVER)
        return RS_HEDGING_UNMEASURED;
    if (hedging->failed > RS_HEDGING_FAILING * RS_HEDGING_SHARE / 100)
        return RS_HEDGING_FAILING_NOW;
    if (hedging->recent_ns / RS_HEDGING_SLOWER > hedging->baseline_ns + RS_HEDGING_UNNOTICED_NS)
        return RS_HEDGING_SATURATED;
    if (rs_hedging_loses(hedging) && ++hedging->held < RS_HEDGING_EXPLORE)
        return RS_HEDGING_LOSING_NOW;
    if (hedging->tokens < RS_HEDGING_ONE)
        return RS_HEDGING_CAPPED;
    return RS_HEDGING_GO;
}

/* Return 1 if nothing of value would be lost by a reset. Knowledge older than the baseline's time constant would be
 * replaced by the next calls. A new one does not hedge until it has measured, so it is the more careful of the two. */
static inline int rs_hedging_is_new(const rs_hedging *hedging, int64_t now_ns)
{
    return hedging->samples == 0 || now_ns - hedging->paid_ns >= RS_HEDGING_AGE_NS;
}

/* The hedge is due: take payment and return RS_HEDGING_GO, or return why it does not start. */
static inline int rs_hedging_may(rs_hedging *hedging)
{
    int answer = rs_hedging_answer(hedging);
    hedging->answers[answer]++;
    if (answer == RS_HEDGING_GO) {
        hedging->tokens -= RS_HEDGING_ONE;
        hedging->held = 0;
    }
    return answer;
}

/* Refund a permitted hedge that did not start: the shared retry budget, or a gate, rejected it. */
static inline void rs_hedging_give_back(rs_hedging *hedging) { hedging->tokens += RS_HEDGING_ONE; }
#endif
