/* What a block's method (block.c) and what its `async with` awaits (block_entry.c) know of each other. */
#ifndef RS_BLOCK_H
#define RS_BLOCK_H
#include "core.h"

extern PyTypeObject rs_BlockEntryType;

/* Make the fetched exit the owner of the permit. 0 with an exception: it is none. */
int rs_block_own(PyObject *exit, PyObject *permit);

/* What to await, until *call* (stolen) has a permit, which *exit* will own. NULL and NULL: nothing to wait for. */
PyObject *rs_block_entry(PyObject *call, PyObject *exit);
#endif
