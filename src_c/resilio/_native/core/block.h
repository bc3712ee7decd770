/* What a block's method (block.c), what its `async with` awaits (block_entry.c) and what it has set (ambient_setting.c) know of
 * each other. */
#ifndef RS_BLOCK_H
#define RS_BLOCK_H
#include "core.h"

extern PyTypeObject rs_BlockEntryType, rs_SettingType;

/* Make the fetched exit the owner of the permit. 0 with an exception: it is none. */
int rs_block_own(PyObject *exit, PyObject *permit);

/* What to await, until *call* (stolen) has a permit, which *exit* will own. NULL and NULL: nothing to wait for. */
PyObject *rs_block_entry(PyObject *call, PyObject *exit);

/* What a block of *owner* has set, which begins here: a new reference. NULL with an exception: nothing is set. */
PyObject *rs_setting_begin(PyObject *owner, int enforced);

/* End the block, which *error* leaves, or NULL. -1 with what comes out of it; it has ended in any case. */
int rs_setting_leave(PyObject *setting, PyObject *error);

/* The same where nothing can come out. Keeps a pending exception. */
void rs_setting_drop(PyObject *setting);

int rs_setting_add(PyObject *module);

/* The block of a generator that has set *value* has ended: such a value holds no more, wherever it is found. */
int rs_deadline_close(PyObject *value);
int rs_priority_close(PyObject *value);

/* What to set where *value* is found, if that holds no more: borrowed, or NULL. */
PyObject *rs_deadline_instead(PyObject *value);
PyObject *rs_priority_instead(PyObject *value);
#endif
