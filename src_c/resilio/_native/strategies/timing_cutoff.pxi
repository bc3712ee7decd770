# Interrupting a block of a task of asyncio when a time is up: once, by cancelling it from the loop, as `asyncio.timeout`
# does. The task's own cleanup is never cancelled again, `task.cancelling()` is what it was when the block ends, and
# somebody else's cancellation in the same tick wins.
#
# A block in progress is known to a global table, so its cutoff holds the task weakly; the loop keeps it while there is
# somebody to interrupt it.

cdef double AGAIN_SECONDS = 0.001           # how long to wait for the end of an interruption that is under way

cdef object _current_task = None            # asyncio's: nothing of it is imported before it runs something
cdef object _cancelled_error = None


cdef object _running_task():
    """The task that runs here, or None. Raises RuntimeError if no loop does."""
    global _current_task, _cancelled_error
    if _current_task is None:
        import asyncio

        _cancelled_error, _current_task = asyncio.CancelledError, asyncio.current_task
    return _current_task()


cdef dict _kept_by(loop):
    """
    The tasks that a loop keeps alive as long as it lives itself, by the cutoff that will interrupt them.

    Not by the timer's own `keep`: that leads from the cutoff, which a global table knows, to the task, and a task of a
    loop that is gone would stay. A loop without attributes keeps nothing.
    """
    cdef dict keeps
    try:
        return loop._resilio_keeps
    except AttributeError:
        keeps = {}
    try:
        loop._resilio_keeps = keeps
    except AttributeError:
        pass
    return keeps


def _expire(known):
    cutoff = known()                        # which the loop keeps as long as it may expire
    if cutoff is not None:
        (<AsyncioCutoff?>cutoff)._expire()


@cython.final
@cython.auto_pickle(False)
cdef class AsyncioCutoff:
    """
    Interrupts one block of the task that starts it; another one once that is over.

    Args:
        suspended: See `resilio._backends.cutoff`.
    """
    cdef object suspended
    cdef object task                        # a weak reference
    cdef object timer
    cdef object handle                      # where there is no time left to wait for
    cdef long cancelling                    # what the task says as the block begins
    cdef long others                        # requests to cancel it beside ours, once that is taken back; before, -1
    cdef bint expired, closed
    cdef readonly bint fired                # "Whether it has had the task cancelled."
    cdef object __weakref__

    def __init__(self, suspended):
        self.suspended = suspended

    def start(self, double seconds):
        """
        Begin the block, in the current task.

        Raises:
            RuntimeError: There is no current task.
        """
        task = _running_task()
        if task is None:
            raise RuntimeError("async with deadline(...) must be entered in a task, which it can interrupt")
        if self.task is None or self.task() is not task:
            self.task = ref(task)
        self.cancelling = task.cancelling()
        self.others = -1
        self.expired = self.fired = self.closed = False
        if seconds <= 0:
            self.handle = task.get_loop().call_soon(self._expire, context=Context())
        else:
            self._arm(task, seconds)

    cdef int _arm(self, task, double seconds) except -1:
        if self.timer is None:
            self.timer = core.Timer(_expire, ref(self))
        self.timer.arm(seconds)
        _kept_by(task.get_loop())[self] = task
        return 0

    cdef object _running(self):
        """The task, which is there as long as it runs; the loop need not keep it for this any more."""
        task = None if self.task is None else self.task()
        if task is not None:
            _kept_by(task.get_loop()).pop(self, None)
        return task

    def close(self, error):
        """End the block; True: the deadline ended it. Whatever a Ctrl-C has left of it, it does when called again."""
        self.closed = True
        task = self._running()
        if self.timer is not None:
            self.timer.disarm()
        if self.handle is not None:
            self.handle.cancel()
        if not self.fired or task is None:
            return self.expired and error is None
        if self.others < 0:
            self.others = task.cancelling() - 1
        if task.cancelling() > self.others:
            task.uncancel()
        return isinstance(error, _cancelled_error) and self.others <= self.cancelling

    def here(self):
        """Tell whether the current task is the one that is interrupted."""
        try:
            return self.task is not None and _running_task() is self.task()
        except RuntimeError:                # a thread without a loop
            return False

    def _expire(self):
        if self.closed:                     # a Ctrl-C came before anybody knew of the timer
            return
        self.expired = True
        self.handle = None
        task = self._running()
        if task is None or (self.suspended is not None and self.suspended()):
            return
        # Its cleanup is left alone: look again when that is over.
        if task.cancelling() > self.cancelling:
            self._arm(task, AGAIN_SECONDS)
            return
        self.fired = True
        task.cancel()
