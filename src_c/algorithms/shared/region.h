/* A region: memory that the workers of a host map, and the cells in it. No Python.h, no lock, offsets and no pointers.
 *
 *   header       magic, layout, the epoch of its times, a secret for hashes, the bytes in use. The roll of the living.
 *   workers      a line each.
 *   entries      where the cells are: one word each, hash | offset, so that a cell is published by one swap.
 *   cells        one after the other. Nothing is ever freed; at the end it may grow.
 *
 * A cell is the stock of one policy: its head names the policy, its body is the business of its kind. A body is zero when
 * it is allocated, and zero is a legal state of every kind. A worker that dies between allocation and publication
 * loses the cell's bytes, nothing else.
 */
#ifndef RS_SHARED_REGION_H
#define RS_SHARED_REGION_H
#include "member.h"
#include "siphash.h"
#include <string.h>

#define RS_REGION_MAGIC "RESILIOH"
#define RS_REGION_LAYOUT 2 /* also in the file's name: bump it with each change of a layout, a cell's body included */
#define RS_REGION_PAGE 4096
#define RS_REGION_ENTRIES 1024
#define RS_REGION_REACH (UINT64_C(1) << 30) /* bytes to which one may grow */

typedef struct rs_region {
    _Alignas(RS_REGION_PAGE) char magic[8];
    uint32_t layout, byte_order;
    rs_word64 size;                   /* bytes; it may grow */
    uint8_t boot[16];                 /* of the kernel's boot_id: memory on a disk outlives its workers */
    int64_t time_offset_ns;           /* of the time namespace */
    int64_t epoch_ns;                 /* CLOCK_MONOTONIC when it was made: times are since it */
    uint64_t key[RS_HASH_KEY];        /* of SipHash */
    _Alignas(RS_LINE) rs_word64 used; /* bytes */
    _Alignas(RS_LINE) rs_roll roll;
    _Alignas(RS_REGION_PAGE) rs_worker worker[RS_WORKERS];
    _Alignas(RS_REGION_PAGE) rs_word64 entry[RS_REGION_ENTRIES]; /* 0: free; hash 32 | offset 32, in lines */
} rs_region;

_Static_assert(sizeof(rs_region) == 4 * RS_REGION_PAGE, "the layout of a region has moved: bump RS_REGION_LAYOUT");
_Static_assert(sizeof(rs_worker) == RS_LINE, "a worker is one line");

typedef struct rs_cell_head {
    _Alignas(RS_LINE) uint32_t kind;
    uint32_t name_size, stock_size;
    uint32_t lines; /* of this head, with the text; the body follows */
    uint64_t size;  /* bytes of the body */
    char text[];    /* the name, then the options that define the stock */
} rs_cell_head;

/* What a policy asks for. */
typedef struct rs_cell_wanted {
    uint32_t kind, name_size, stock_size;
    uint64_t size;
    const char *name, *stock;
    uint64_t leave; /* of one of many: none is made unless these bytes are left to others, and half of the entries */
} rs_cell_wanted;

typedef enum { RS_CELL_FOUND, RS_CELL_NO_ROOM, RS_CELL_NO_ENTRY } rs_cell_result;

/* Make a region of zeroes one without cells. Not published yet: plain stores. */
static inline void rs_region_init(rs_region *region, uint64_t size, int64_t epoch_ns, const uint64_t key[RS_HASH_KEY])
{
    memcpy(region->magic, RS_REGION_MAGIC, sizeof region->magic);
    region->layout = RS_REGION_LAYOUT;
    region->byte_order = 0x01020304;
    atomic_store_explicit(&region->size, size, memory_order_relaxed);
    region->epoch_ns = epoch_ns;
    region->key[0] = key[0];
    region->key[1] = key[1];
    atomic_store_explicit(&region->used, sizeof *region, memory_order_release);
}

static inline uint64_t rs_region_size(rs_region *region) { return rs_atomic_load(&region->size); }

/* 1 if these are the first bytes of a region of this layout and size, in a file that holds it. */
static inline int rs_region_is_one(rs_region *region, uint64_t size, uint64_t file_size)
{
    return memcmp(region->magic, RS_REGION_MAGIC, sizeof region->magic) == 0 && region->layout == RS_REGION_LAYOUT
           && region->byte_order == 0x01020304 && size <= file_size && size > sizeof *region;
}

static inline void *rs_cell_body(rs_cell_head *cell) { return (char *)cell + (size_t)cell->lines * RS_LINE; }

/* The cell of an entry's word; NULL if there is none, or if it lies elsewhere than in the region. */
static inline rs_cell_head *rs_region_at(rs_region *region, uint64_t word)
{
    uint64_t offset = (word & UINT32_MAX) * RS_LINE, size = rs_region_size(region);
    if (offset < sizeof *region || offset + sizeof(rs_cell_head) > size)
        return NULL;
    rs_cell_head *cell = (rs_cell_head *)((char *)region + offset);
    uint64_t text = sizeof *cell + (uint64_t)cell->name_size + cell->stock_size, lines = cell->lines;
    int is_inside = text <= lines * RS_LINE && offset + lines * RS_LINE <= size
                    && cell->size <= size - offset - lines * RS_LINE;
    return is_inside ? cell : NULL;
}

static inline int rs_cell_is(const rs_cell_head *cell, const rs_cell_wanted *wanted)
{
    return cell->kind == wanted->kind && cell->size == wanted->size && cell->name_size == wanted->name_size
           && cell->stock_size == wanted->stock_size && memcmp(cell->text, wanted->name, wanted->name_size) == 0
           && memcmp(cell->text + wanted->name_size, wanted->stock, wanted->stock_size) == 0;
}

static inline uint32_t rs_cell_hash(const rs_region *region, const rs_cell_wanted *wanted)
{
    uint64_t parts[4] = {wanted->kind, wanted->size, rs_siphash(region->key, wanted->name, wanted->name_size),
                         rs_siphash(region->key, wanted->stock, wanted->stock_size)};
    uint32_t hash = (uint32_t)rs_siphash(region->key, parts, sizeof parts);
    return hash ? hash : 1;
}

/* Take room for a cell and fill its head; NULL: there is none. */
static inline rs_cell_head *rs_cell_allocate(rs_region *region, const rs_cell_wanted *wanted)
{
    uint64_t text = sizeof(rs_cell_head) + (uint64_t)wanted->name_size + wanted->stock_size;
    uint64_t lines = (text + RS_LINE - 1) / RS_LINE, body = (wanted->size + RS_LINE - 1) / RS_LINE;
    uint64_t used = rs_atomic_load(&region->used), size = rs_region_size(region);
    do {
        if (body > size / RS_LINE || (lines + body) * RS_LINE > size - used)
            return NULL;
    } while (!rs_atomic_swap(&region->used, &used, used + (lines + body) * RS_LINE));
    rs_cell_head *cell = (rs_cell_head *)((char *)region + used);
    cell->kind = wanted->kind;
    cell->name_size = wanted->name_size;
    cell->stock_size = wanted->stock_size;
    cell->lines = (uint32_t)lines;
    cell->size = wanted->size;
    memcpy(cell->text, wanted->name, wanted->name_size);
    memcpy(cell->text + wanted->name_size, wanted->stock, wanted->stock_size);
    return cell;
}

/* Give back the room of a cell that was not published: clear it, if no other worker has taken room behind it; else
   its bytes are lost. */
static inline void rs_cell_drop(rs_region *region, rs_cell_head *cell)
{
    uint64_t begin = (uint64_t)((char *)cell - (char *)region);
    uint64_t end = begin + ((uint64_t)cell->lines + (cell->size + RS_LINE - 1) / RS_LINE) * RS_LINE;
    memset(cell, 0, (size_t)cell->lines * RS_LINE); /* the body was not touched */
    rs_atomic_swap(&region->used, &end, begin);
}

/* 1 if *bytes* and half of the entries are left. What workers take at once, they take beyond it. */
static inline int rs_region_has_left(rs_region *region, uint64_t bytes)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < RS_REGION_ENTRIES; i++)
        left += rs_atomic_load(&region->entry[i]) == 0;
    return rs_atomic_load(&region->used) + bytes <= rs_region_size(region) && left > RS_REGION_ENTRIES / 2;
}

/* Find the cell of this kind, name and stock, or make it. Two workers that make it at once get the same one. */
static inline rs_cell_result rs_region_cell(rs_region *region, const rs_cell_wanted *wanted, rs_cell_head **found)
{
    uint32_t hash = rs_cell_hash(region, wanted);
    rs_cell_head *made = NULL;
    for (uint32_t i = 0; i < RS_REGION_ENTRIES; i++) {
        rs_word64 *entry = &region->entry[(hash + i) % RS_REGION_ENTRIES];
        uint64_t word = rs_atomic_load(entry);
        if (word == 0 && made == NULL && wanted->leave && !rs_region_has_left(region, wanted->leave))
            return RS_CELL_NO_ROOM;
        if (word == 0 && made == NULL && (made = rs_cell_allocate(region, wanted)) == NULL)
            return RS_CELL_NO_ROOM;
        uint64_t mine = made ? (uint64_t)hash << 32 | (uint64_t)((char *)made - (char *)region) / RS_LINE : 0;
        if (word == 0 && rs_atomic_swap(entry, &word, mine)) {
            *found = made;
            return RS_CELL_FOUND;
        }
        rs_cell_head *cell = word >> 32 == hash ? rs_region_at(region, word) : NULL;
        if (cell && rs_cell_is(cell, wanted)) {
            if (made)
                rs_cell_drop(region, made);
            *found = cell;
            return RS_CELL_FOUND;
        }
    }
    if (made)
        rs_cell_drop(region, made);
    return RS_CELL_NO_ENTRY;
}
#endif
