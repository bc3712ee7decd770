/* What a block's method (block.c), what its `async with` awaits (block_entry.c) and what it has set (context/setting.c) know of
 * each other. */
#ifndef RS_BLOCK_H
#define RS_BLOCK_H
#include "core.h"

extern PyTypeObject rs_BlockEntryType, rs_SettingType;

/* What blocks of one kind hold while they are open: a permit, or what they have set. */
typedef struct {
    PyObject *(*enter)(PyObject *owner, PyObject *exit, int is_async);  /* what the entry returns; *exit* owns what is held from then on */
    int (*leave)(PyObject *held, PyObject *error);                      /* *error*: what leaves the block, or NULL. -1 with what comes out */
    void (*drop)(PyObject *held);                                       /* the block was never left; nothing can come out */
} rs_block_kind;

extern const rs_block_kind rs_permit_block, rs_setting_block;
extern PyObject *rs_block_nothing;      /* to await where there is nothing to wait for */

PyObject *rs_block_owner(PyObject *exit);               /* what was entered, borrowed */
void rs_block_own(PyObject *exit, PyObject *held);      /* steals */

int rs_block_entry_init(void);
int rs_setting_add(PyObject *module);

/* The block of a generator that has set *value* has ended: such a value holds no more, wherever it is found. */
int rs_deadline_close(PyObject *value);
int rs_priority_close(PyObject *value);

/* What to set where *value* is found, if that holds no more: borrowed, or NULL. */
PyObject *rs_deadline_instead(PyObject *value);
PyObject *rs_priority_instead(PyObject *value);
#endif
