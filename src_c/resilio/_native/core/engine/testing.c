/* The switches of resilio.testing, each set in a context: calls skip the gates, or waits end at once. */
#include "core.h"

int rs_bypass_count, rs_no_wait_count; /* contexts that may have it set */
static PyObject *context_bypass, *context_no_wait, *context_say_once;

static int context_flag(int count, const char *name, PyObject **cache)
{
    PyObject *variable, *value = NULL;
    if (RS_LIKELY(count == 0))
        return 0;
    variable = rs_hook(name, cache);
    if (variable == NULL || PyContextVar_Get(variable, NULL, &value) < 0) {
        rs_drop_error();
        return 0;
    }
    int on = value == Py_True;
    Py_XDECREF(value);
    return on;
}

/* testing.disabled(), or RESILIO_DISABLED: skip the gates in this context. The first such call may log why. */
int rs_run_bypassed(void)
{
    static int warned;
    if (!context_flag(rs_bypass_count, "bypass", &context_bypass))
        return 0;
    if (__atomic_exchange_n(&warned, 1, __ATOMIC_ACQ_REL) == 0) {
        PyObject *say = rs_hook("say_once", &context_say_once);
        Py_XDECREF(say ? PyObject_CallNoArgs(say) : NULL);
        rs_drop_error();
    }
    return 1;
}

/* The time at which a wait is polled: now, or under testing.no_wait() the end of the wait. */
int64_t rs_wait_now(const rs_run *run)
{
    const rs_slot *slot = &run->slots[run->cursor];
    int64_t now = rs_clock_now(rs_clk), wake = slot->flags & RS_ASKS ? slot->waiter->deadline_ns : slot->wake_ns;
    return wake != RS_NEVER && wake > now && rs_skips_waits() ? wake : now;
}

/* testing.no_wait(): end waits at once that only the passage of time would end. */
int rs_skips_waits(void) { return context_flag(rs_no_wait_count, "no_wait", &context_no_wait); }
