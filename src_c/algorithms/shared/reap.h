/* What a dead worker held, freed in every cell: each kind of cell has its own way. */
#ifndef RS_SHARED_REAP_H
#define RS_SHARED_REAP_H
#include "adaptive.h"
#include "breaker.h"
#include "permits.h"
#include "rates.h"
#include "region.h"
#include "slots.h"

/* Called with the lock of the slot's byte held: the worker is dead, and no other has the slot. */
static inline void rs_cell_reap(rs_cell_head *cell, uint32_t slot)
{
    switch (cell->kind) { /* rs_shared_<kind>_reap(rs_cell_body(cell), slot), where a kind leaves something behind */
    case RS_CELL_LIMIT: rs_rates_reap(rs_cell_body(cell), slot); break;
    case RS_CELL_PERMITS: rs_shared_permits_reap(rs_cell_body(cell), cell->size, slot); break;
    case RS_CELL_ADAPTIVE: rs_shared_adaptive_reap(rs_cell_body(cell), cell->size, slot); break;
    case RS_CELL_BREAKER: rs_shared_breaker_reap(rs_cell_body(cell), slot); break;
    case RS_CELL_SLOTS:
        if (cell->size > sizeof(rs_slots))
            rs_shared_permits_reap(rs_slots_permits(rs_cell_body(cell)), cell->size - sizeof(rs_slots), slot);
        break;
    default: (void)slot; break;
    }
}

static inline void rs_region_reap(rs_region *region, uint32_t slot)
{
    for (uint32_t i = 0; i < RS_REGION_ENTRIES; i++) {
        uint64_t word = rs_atomic_load(&region->entry[i]);
        rs_cell_head *cell = word ? rs_region_at(region, word) : NULL;
        if (cell)
            rs_cell_reap(cell, slot);
    }
}
#endif
