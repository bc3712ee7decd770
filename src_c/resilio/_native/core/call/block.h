/* Declarations shared by a block's methods (block.c), the awaitables of its `async with` (block_entry.c) and its
 * context values (context/setting.c). */
#ifndef RS_BLOCK_H
#define RS_BLOCK_H
#include "core.h"

extern PyTypeObject rs_BlockEntryType, rs_SettingType;

/* The operations of one kind of block. An open block holds a permit, or the values that it has set. */
typedef struct {
    /* Returns the entry's result; *exit* owns *held* from then on. */
    PyObject *(*enter)(PyObject *owner, PyObject *exit, int is_async);
    /* *error*: leaves the block, or NULL. -1 with the resulting exception. */
    int (*leave)(PyObject *held, PyObject *error);
    void (*drop)(PyObject *held); /* the block was never left; raises nothing */
} rs_block_kind;

extern const rs_block_kind rs_permit_block, rs_setting_block;
extern PyObject *rs_block_nothing; /* to await where there is nothing to wait for */

PyObject *rs_block_owner(PyObject *exit);          /* the object that was entered, borrowed */
void rs_block_own(PyObject *exit, PyObject *held); /* steals */

int rs_block_entry_init(void);
int rs_setting_add(PyObject *module);

/* End the generator's block that has set *value*: the value is never in effect again, wherever it is found. */
int rs_deadline_close(PyObject *value);
int rs_priority_close(PyObject *value);

/* The value to set in place of *value*, if that can never take effect again: borrowed, or NULL. */
PyObject *rs_deadline_instead(PyObject *value);
PyObject *rs_priority_instead(PyObject *value);
#endif
