/* A log-linear histogram of int64 nanoseconds: quantiles within 0.8 % at any scale, a few nanoseconds a record.
 *
 * Values below 64 ns have a cell each (page 0). Above, every octave [2^k, 2^(k+1)) up to 2^44 is a page of 64 equal
 * cells. A quantile is the middle of its cell, so its error is at most half a cell: 1/128 = 0.78 % of the value.
 * A page exists once its octave was hit: a service that answers in 1 to 100 ms needs eight pages, 2.5 KB. All 39 are
 * 11 KB. A cell counts in 32 bits; the first one that would wrap gives its page 256 bytes of high halves, so counts
 * stay exact.
 *
 * No Python.h: pages come from calloc, which may run inside a locked section. Nothing here is atomic; the owner locks.
 * Source: the idea of linear cells in exponential ranges is that of HdrHistogram (Tene).
 */
#ifndef RS_LOGLINEAR_H
#define RS_LOGLINEAR_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define RS_HISTOGRAM_CELL_BITS 6
#define RS_HISTOGRAM_CELLS (1 << RS_HISTOGRAM_CELL_BITS) /* cells a page */
#define RS_HISTOGRAM_VALUE_BITS 44                       /* 4.9 hours: longer times are clamped */
#define RS_HISTOGRAM_PAGES (RS_HISTOGRAM_VALUE_BITS - RS_HISTOGRAM_CELL_BITS + 1)
#define RS_HISTOGRAM_MAX_NS ((INT64_C(1) << RS_HISTOGRAM_VALUE_BITS) - 1)
#define RS_HISTOGRAM_MAX_COUNT ((uint64_t)INT64_MAX) /* beyond it samples are lost, never wrapped */
#define RS_HISTOGRAM_EMPTY INT64_C(-1)

typedef struct rs_histogram_page {
    uint64_t total; /* sum of its cells: a quantile skips whole pages */
    uint32_t *high; /* high halves of the cells; NULL until one is needed */
    uint32_t low[RS_HISTOGRAM_CELLS];
} rs_histogram_page;

typedef struct rs_histogram {
    uint64_t count;
    uint64_t sum, sum_high; /* 128 bits: 64 would last 106 days of a thousand calls in flight */
    int64_t min, max;       /* exact; INT64_MAX and -1 while empty */
    uint64_t lost;          /* samples lost without memory, in no other field */
    rs_histogram_page *page[RS_HISTOGRAM_PAGES];
} rs_histogram;

/* Initialise *histogram* as empty; its former contents are not freed. */
static inline void rs_histogram_init(rs_histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
    histogram->min = INT64_MAX;
    histogram->max = RS_HISTOGRAM_EMPTY;
}

/* Free the pages; the histogram is empty and may be used again. */
static inline void rs_histogram_free(rs_histogram *histogram)
{
    for (int p = 0; p < RS_HISTOGRAM_PAGES; p++) {
        if (histogram->page[p] == NULL)
            continue;
        free(histogram->page[p]->high);
        free(histogram->page[p]);
    }
    rs_histogram_init(histogram);
}

static inline void rs_histogram_reset(rs_histogram *histogram) { rs_histogram_free(histogram); }

/* Bytes it holds, its own struct included. */
static inline size_t rs_histogram_memory(const rs_histogram *histogram)
{
    size_t bytes = sizeof *histogram;
    for (int p = 0; p < RS_HISTOGRAM_PAGES; p++) {
        if (histogram->page[p] == NULL)
            continue;
        bytes += sizeof(rs_histogram_page);
        if (histogram->page[p]->high)
            bytes += sizeof histogram->page[p]->low;
    }
    return bytes;
}

/* The page of a clamped value, and in *cell its cell. */
static inline int rs_histogram_locate(int64_t ns, int *cell)
{
    int shift = (63 ^ __builtin_clzll((uint64_t)ns | RS_HISTOGRAM_CELLS)) - RS_HISTOGRAM_CELL_BITS;
    uint64_t top = (uint64_t)ns >> shift; /* below the number of cells on page 0 only */
    *cell = (int)(top & (RS_HISTOGRAM_CELLS - 1));
    return shift + (int)(top >> RS_HISTOGRAM_CELL_BITS);
}

/* The middle of a cell. */
static inline int64_t rs_histogram_middle(int page, int cell)
{
    if (page == 0)
        return cell;
    int64_t width = INT64_C(1) << (page - 1);
    return (RS_HISTOGRAM_CELLS + cell) * width + width / 2;
}

static inline uint64_t rs_histogram_cell(const rs_histogram_page *page, int cell)
{
    return page->low[cell] | (page->high ? (uint64_t)page->high[cell] << 32 : 0);
}

static inline rs_histogram_page *rs_histogram_page_at(rs_histogram *histogram, int p)
{
    if (__builtin_expect(histogram->page[p] == NULL, 0))
        histogram->page[p] = (rs_histogram_page *)calloc(1, sizeof(rs_histogram_page));
    return histogram->page[p];
}

/* Allocate the high halves of *page*. 0, or -1 without memory. */
static inline int rs_histogram_widen(rs_histogram_page *page)
{
    if (page->high == NULL)
        page->high = (uint32_t *)calloc(RS_HISTOGRAM_CELLS, sizeof(uint32_t));
    return page->high ? 0 : -1;
}

/* Add n to a cell and its page's total, nothing else. 0, or -1 without memory, with nothing changed. */
static inline int rs_histogram_add(rs_histogram_page *page, int cell, uint64_t n)
{
    uint64_t cell_count = page->low[cell] + n; /* n <= MAX_COUNT: cannot wrap */
    if (__builtin_expect(cell_count > UINT32_MAX, 0)) {
        if (rs_histogram_widen(page) < 0)
            return -1;
        page->high[cell] += (uint32_t)(cell_count >> 32);
    }
    page->low[cell] = (uint32_t)cell_count;
    page->total += n;
    return 0;
}

static inline void rs_histogram_add_sum(rs_histogram *histogram, uint64_t sum, uint64_t sum_high)
{
    histogram->sum += sum;
    histogram->sum_high += sum_high + (histogram->sum < sum);
}

static inline void rs_histogram_lose(rs_histogram *histogram, uint64_t n)
{
    uint64_t room = UINT64_MAX - histogram->lost;
    histogram->lost += n < room ? n : room;
}

/* Record *ns* n times. Never fails: without memory the samples go to `lost`. */
static void rs_histogram_record_n(rs_histogram *histogram, int64_t ns, uint64_t n)
{
    int cell;
    if (n == 0)
        return;
    if (ns < 0)
        ns = 0;
    if (ns > RS_HISTOGRAM_MAX_NS)
        ns = RS_HISTOGRAM_MAX_NS;
    rs_histogram_page *page = rs_histogram_page_at(histogram, rs_histogram_locate(ns, &cell));
    if (page == NULL || n > RS_HISTOGRAM_MAX_COUNT - histogram->count || rs_histogram_add(page, cell, n) < 0) {
        rs_histogram_lose(histogram, n);
        return;
    }
    unsigned __int128 sum = (unsigned __int128)(uint64_t)ns * n;
    histogram->count += n;
    rs_histogram_add_sum(histogram, (uint64_t)sum, (uint64_t)(sum >> 64));
    if (ns < histogram->min)
        histogram->min = ns;
    if (ns > histogram->max)
        histogram->max = ns;
}

static inline void rs_histogram_record(rs_histogram *histogram, int64_t ns)
{
    int cell;
    if (__builtin_expect((uint64_t)ns > RS_HISTOGRAM_MAX_NS, 0))
        ns = ns < 0 ? 0 : RS_HISTOGRAM_MAX_NS;
    rs_histogram_page *page = histogram->page[rs_histogram_locate(ns, &cell)];
    if (__builtin_expect(page == NULL, 0) || __builtin_expect(page->low[cell] == UINT32_MAX, 0)) {
        rs_histogram_record_n(histogram, ns, 1);
        return;
    }
    page->low[cell]++;
    page->total++;
    histogram->count++;
    histogram->sum += (uint64_t)ns;
    if (__builtin_expect(histogram->sum < (uint64_t)ns, 0))
        histogram->sum_high++;
    if (__builtin_expect(ns < histogram->min, 0))
        histogram->min = ns;
    if (__builtin_expect(ns > histogram->max, 0))
        histogram->max = ns;
}

static inline double rs_histogram_sum(const rs_histogram *histogram)
{
    return (double)histogram->sum_high * 18446744073709551616.0 + (double)histogram->sum;
}

/* The rank of the q-quantile, ceil(q * count), at least 1. A product that is an integer except for rounding counts as
 * that integer: 0.07 * 100 is 7.000000000000001, and rank 7. */
static inline uint64_t rs_histogram_rank(uint64_t count, double q)
{
    double product = q * (double)count;
    uint64_t rank = (uint64_t)(product - product * 4.5e-16) + 1;
    return rank < count ? rank : count;
}

/* The q-quantile (0 <= q <= 1) in ns: the middle of the cell of the sample of rank ceil(q * count). -1 while empty. */
static inline int64_t rs_histogram_quantile(const rs_histogram *histogram, double q)
{
    if (histogram->count == 0)
        return RS_HISTOGRAM_EMPTY;
    if (q <= 0)
        return histogram->min;
    if (q >= 1)
        return histogram->max;
    uint64_t left = rs_histogram_rank(histogram->count, q);
    int p = 0, cell = 0;
    while (histogram->page[p] == NULL || left > histogram->page[p]->total) {
        if (histogram->page[p])
            left -= histogram->page[p]->total;
        p++;
    }
    for (uint64_t here; left > (here = rs_histogram_cell(histogram->page[p], cell)); cell++)
        left -= here;
    int64_t ns = rs_histogram_middle(p, cell);
    if (ns < histogram->min)
        return histogram->min;
    return ns > histogram->max ? histogram->max : ns;
}

/* Samples at or below *ns*, within the histogram's error in ns; exact outside [min, max]. */
static inline uint64_t rs_histogram_at_or_below(const rs_histogram *histogram, int64_t ns)
{
    if (ns < histogram->min)
        return 0;
    if (ns >= histogram->max)
        return histogram->count;
    int last, end = rs_histogram_locate(ns, &last);
    uint64_t below = 0;
    for (int p = 0; p < end; p++)
        below += histogram->page[p] ? histogram->page[p]->total : 0;
    if (histogram->page[end] == NULL)
        return below;
    last += rs_histogram_middle(end, last) <= ns;
    for (int cell = 0; cell < last; cell++)
        below += rs_histogram_cell(histogram->page[end], cell);
    return below;
}

/* Allocate every page of *from*, wide where a sum could need it. 0, or -1 without memory. */
static inline int rs_histogram_reserve(rs_histogram *into, const rs_histogram *from)
{
    for (int p = 0; p < RS_HISTOGRAM_PAGES; p++) {
        if (from->page[p] == NULL)
            continue;
        rs_histogram_page *page = rs_histogram_page_at(into, p);
        if (page == NULL)
            return -1;
        if (page->total + from->page[p]->total > UINT32_MAX && rs_histogram_widen(page) < 0)
            return -1;
    }
    return 0;
}

/* Add the contents of *from* to *into*. 0, or -1 (no memory, or too many samples) with nothing changed. */
static inline int rs_histogram_merge(rs_histogram *into, const rs_histogram *from)
{
    if (from->count > RS_HISTOGRAM_MAX_COUNT - into->count || rs_histogram_reserve(into, from) < 0)
        return -1;
    for (int p = 0; p < RS_HISTOGRAM_PAGES; p++) {
        if (from->page[p] == NULL)
            continue;
        for (int cell = 0; cell < RS_HISTOGRAM_CELLS; cell++)
            rs_histogram_add(into->page[p], cell, rs_histogram_cell(from->page[p], cell));
    }
    into->count += from->count;
    rs_histogram_add_sum(into, from->sum, from->sum_high);
    rs_histogram_lose(into, from->lost);
    if (from->min < into->min)
        into->min = from->min;
    if (from->max > into->max)
        into->max = from->max;
    return 0;
}

/* Initialise *into* as a copy of *from*. 0, or -1 without memory, with *into* empty. */
static inline int rs_histogram_copy(rs_histogram *into, const rs_histogram *from)
{
    rs_histogram_init(into);
    if (rs_histogram_merge(into, from) == 0)
        return 0;
    rs_histogram_free(into);
    return -1;
}

/* Add the samples of a cell that *earlier* does not have. 0, -1 without memory, 1 if *earlier* has more. */
static inline int rs_histogram_take_cell(rs_histogram *into, const rs_histogram_page *now,
                                         const rs_histogram_page *earlier, int p, int cell)
{
    uint64_t count = rs_histogram_cell(now, cell), before = earlier ? rs_histogram_cell(earlier, cell) : 0;
    if (count <= before)
        return count < before;
    rs_histogram_page *page = rs_histogram_page_at(into, p);
    if (page == NULL || rs_histogram_add(page, cell, count - before) < 0)
        return -1;
    into->count += count - before;
    int64_t middle = rs_histogram_middle(p, cell);
    if (into->max == RS_HISTOGRAM_EMPTY)
        into->min = middle;
    into->max = middle; /* cells come in ascending order */
    return 0;
}

/* Initialise *into* as the difference of *now* and *earlier*; min and max are those of cells. 0, -1 without memory, 1
 * if *earlier* has samples that *now* has not; on errors *into* is empty. */
static inline int rs_histogram_since(rs_histogram *into, const rs_histogram *now, const rs_histogram *earlier)
{
    rs_histogram_init(into);
    for (int p = 0; p < RS_HISTOGRAM_PAGES; p++) {
        if (now->page[p] == NULL && earlier->page[p] != NULL && earlier->page[p]->total) {
            rs_histogram_free(into);
            return 1;
        }
        for (int cell = 0; now->page[p] != NULL && cell < RS_HISTOGRAM_CELLS; cell++) {
            int failed = rs_histogram_take_cell(into, now->page[p], earlier->page[p], p, cell);
            if (failed) {
                rs_histogram_free(into);
                return failed;
            }
        }
    }
    into->sum = now->sum - earlier->sum;
    into->sum_high = now->sum_high - earlier->sum_high - (now->sum < earlier->sum);
    into->lost = now->lost - earlier->lost;
    return 0;
}
#endif
