/* A histogram as bytes: compact, versioned, and checked when read.
 *
 *     'R' 'H' version | lost, sum, sum_high, min, max | (cells skipped, count) for every cell that is not empty
 *
 * All numbers are LEB128 varints in their shortest form; min and max are 0 while empty. The count is
 * the sum of the cells. The bytes read must be consistent: min in the first cell, max in the last one,
 * the sum within the range of the cells.
 */
#ifndef RS_LOGLINEAR_BYTES_H
#define RS_LOGLINEAR_BYTES_H
#include "loglinear.h"

#define RS_HISTOGRAM_VERSION 1
#define RS_HISTOGRAM_ALL_CELLS (RS_HISTOGRAM_PAGES * RS_HISTOGRAM_CELLS)
#define RS_HISTOGRAM_BYTES_MAX (3 + 5 * 10 + RS_HISTOGRAM_ALL_CELLS * (2 + 10))

typedef struct rs_reader {
    const uint8_t *at, *end;
    const char *wrong; /* NULL: no error yet */
} rs_reader;

static inline uint8_t *rs_varint_write(uint8_t *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *out++ = (uint8_t)(value | 0x80);
    *out++ = (uint8_t)value;
    return out;
}

static inline uint64_t rs_varint_read(rs_reader *reader)
{
    uint64_t value = 0;
    for (int shift = 0; reader->at < reader->end && shift < 64; shift += 7) {
        uint8_t byte = *reader->at++;
        if ((byte == 0 && shift > 0) || (shift == 63 && byte > 1))
            break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    reader->wrong = "a number is cut off or malformed";
    return 0;
}

/* Write to *out*, which has room for RS_HISTOGRAM_BYTES_MAX; return the number of bytes written. */
static inline size_t rs_histogram_encode(const rs_histogram *histogram, uint8_t *out)
{
    uint8_t *start = out;
    uint64_t skipped = 0;
    *out++ = 'R';
    *out++ = 'H';
    *out++ = RS_HISTOGRAM_VERSION;
    out = rs_varint_write(out, histogram->lost);
    out = rs_varint_write(out, histogram->sum);
    out = rs_varint_write(out, histogram->sum_high);
    out = rs_varint_write(out, histogram->count ? (uint64_t)histogram->min : 0);
    out = rs_varint_write(out, histogram->count ? (uint64_t)histogram->max : 0);
    for (int i = 0; i < RS_HISTOGRAM_ALL_CELLS; i++) {
        const rs_histogram_page *page = histogram->page[i / RS_HISTOGRAM_CELLS];
        uint64_t n = page ? rs_histogram_cell(page, i % RS_HISTOGRAM_CELLS) : 0;
        if (n == 0) {
            skipped++;
            continue;
        }
        out = rs_varint_write(rs_varint_write(out, skipped), n);
        skipped = 0;
    }
    return (size_t)(out - start);
}

/* Read one cell into *histogram*, and add its bounds to those of the sum. Return its index, or -1. */
static inline int rs_histogram_decode_cell(rs_histogram *histogram, rs_reader *reader, int previous,
                                           unsigned __int128 *lowest, unsigned __int128 *highest)
{
    uint64_t skipped = rs_varint_read(reader), n = rs_varint_read(reader);
    if (reader->wrong)
        return -1;
    if (n == 0 || n > RS_HISTOGRAM_MAX_COUNT - histogram->count
        || skipped >= (uint64_t)(RS_HISTOGRAM_ALL_CELLS - 1 - previous)) {
        reader->wrong = "a cell is out of range";
        return -1;
    }
    int index = previous + 1 + (int)skipped, p = index / RS_HISTOGRAM_CELLS, cell = index % RS_HISTOGRAM_CELLS;
    rs_histogram_page *page = rs_histogram_page_at(histogram, p);
    if (page == NULL || rs_histogram_add(page, cell, n) < 0) {
        reader->wrong = "out of memory";
        return -1;
    }
    uint64_t width = p ? UINT64_C(1) << (p - 1) : 1;
    uint64_t low = p ? (uint64_t)(RS_HISTOGRAM_CELLS + cell) * width : (uint64_t)cell;
    histogram->count += n;
    *lowest += (unsigned __int128)low * n;
    *highest += (unsigned __int128)(low + width - 1) * n;
    return index;
}

/* Return 1 if *ns* is a value of the cell *index*. */
static inline int rs_histogram_in_cell(uint64_t ns, int index)
{
    int cell = 0;
    return ns <= (uint64_t)RS_HISTOGRAM_MAX_NS
           && rs_histogram_locate((int64_t)ns, &cell) * RS_HISTOGRAM_CELLS + cell == index;
}

/* Return 1 if the header's numbers fit the cells; *first* and *last* are the outermost cells. */
static inline int rs_histogram_fits(const rs_histogram *histogram, uint64_t min, uint64_t max, int first, int last,
                                    unsigned __int128 lowest, unsigned __int128 highest)
{
    unsigned __int128 sum = (unsigned __int128)histogram->sum_high << 64 | histogram->sum;
    if (histogram->count == 0)
        return sum == 0 && min == 0 && max == 0;
    return min <= max && rs_histogram_in_cell(min, first) && rs_histogram_in_cell(max, last) && sum >= lowest
           && sum <= highest;
}

/* Initialise *histogram* from bytes. Return NULL, or the error, with *histogram* left empty. */
static inline const char *rs_histogram_decode(rs_histogram *histogram, const uint8_t *bytes, size_t length)
{
    rs_reader reader = {bytes + 3, bytes + length, NULL};
    rs_histogram_init(histogram);
    if (length < 3 || bytes[0] != 'R' || bytes[1] != 'H')
        return "not a histogram";
    if (bytes[2] != RS_HISTOGRAM_VERSION)
        return "unknown version";
    histogram->lost = rs_varint_read(&reader);
    histogram->sum = rs_varint_read(&reader);
    histogram->sum_high = rs_varint_read(&reader);
    uint64_t min = rs_varint_read(&reader), max = rs_varint_read(&reader);
    unsigned __int128 lowest = 0, highest = 0;
    int first = -1, last = -1;
    while (reader.wrong == NULL && reader.at < reader.end) {
        last = rs_histogram_decode_cell(histogram, &reader, last, &lowest, &highest);
        first = first < 0 ? last : first;
    }
    if (reader.wrong == NULL && !rs_histogram_fits(histogram, min, max, first, last, lowest, highest))
        reader.wrong = "min, max or sum do not fit the cells";
    if (reader.wrong)
        rs_histogram_free(histogram);
    else if (histogram->count) {
        histogram->min = (int64_t)min;
        histogram->max = (int64_t)max;
    }
    return reader.wrong;
}
#endif
