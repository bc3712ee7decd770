/* The memory layout of resilio._native.budget.RetryBudget for C; that module checks it.
 *
 *     rs_budget_object *budget = (rs_budget_object *)object;          an instance, a subclass's included
 *     rs_lock_acquire(&budget->lock);
 *     rs_budget_deposit(&budget->budget, now_ns);
 *     rs_lock_release(&budget->lock);
 */
#ifndef RS_BUDGET_OBJECT_H
#define RS_BUDGET_OBJECT_H
#include <Python.h>
#include "budget.h"
#include "rs_lock.h"

typedef struct rs_budget_object rs_budget_object;
struct rs_budget_object {
    PyObject_HEAD
    rs_budget budget;
    rs_lock lock;
    rs_budget_object *prev, *next; /* all budgets, for the child of a fork */
};
#endif
