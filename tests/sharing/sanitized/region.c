/* A process of several threads and its housekeeper, in a region of the file that is named: calls take the slot and cells
   while the descriptor is closed by another part of the program, and the slot is taken again. Prints the slots that were
   seen to be lost, and the cells. */
#include "threads.h"
#include "shared/housekeeper.h"
#include "shared/region_file.h"

enum { CALLS = 20000, BEATS = 300, NAMES = 20 };

static rs_mapping *mapping;
static rs_word64 lost, cells, without;

static void nothing(void) {}

static void beat(void)
{
    for (uint64_t i = 0; i < BEATS; i++) {
        pthread_mutex_lock(&rs_house.lock);
        if (i % 10 == 0)
            close(mapping->fd);
        atomic_fetch_add(&lost, i % 10 == 0);
        rs_house_keep_all(i);
        pthread_mutex_unlock(&rs_house.lock);
        struct timespec rest = {0, 100000};
        nanosleep(&rest, NULL);
    }
}

static void call(uint32_t i)
{
    char name[] = {'n', (char)('a' + i % NAMES)};
    rs_cell_head *cell = NULL;
    rs_cell_wanted wanted = {.kind = RS_CELL_PERMITS, .name_size = 2, .name = name, .stock = "", .size = 4 * RS_LINE};
    uint32_t owner = rs_member_owner(&mapping->member);
    atomic_fetch_add(&without, owner == 0);
    if (owner && rs_region_cell(mapping->region, &wanted, &cell) == RS_CELL_FOUND) {
        rs_permits *permits = rs_cell_body(cell);
        uint32_t seen = 0;
        rs_permits_begin(permits, 1);
        if (rs_atomic_swap(rs_permit(permits, 0), &seen, owner))
            rs_atomic_swap(rs_permit(permits, 0), &owner, 0);
    }
    rs_member_peers(&mapping->member);
    rs_member_leads(&mapping->member, RS_LEARNER);
}

static void *work(void *at)
{
    if ((uintptr_t)at == 0)
        beat();
    else
        for (uint32_t i = 0; i < CALLS; i++)
            call(i + (uint32_t)(uintptr_t)at);
    return NULL;
}

int main(int argc, char **argv)
{
    rs_open_result result;
    rs_house_open(nothing);
    mapping = rs_mapping_open(argv[argc - 1], 1 << 20, RS_WORKERS, &result);
    if (mapping == NULL)
        return 2;
    rs_house_add(mapping);
    run(work);
    for (int i = 0; i < RS_REGION_ENTRIES; i++)
        cells += rs_atomic_load(&mapping->region->entry[i]) != 0;
    rs_house_remove(mapping);
    printf("lost %d\ncells %d\nwithout %d\n", (int)lost, (int)cells, (int)without);
    return 0;
}
