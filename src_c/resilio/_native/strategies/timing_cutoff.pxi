# Interrupting a block of an asyncio task when its time is up: once, by a cancellation from the loop, as
# `asyncio.timeout` does. The task's cleanup is never cancelled again. When the block ends, `task.cancelling()` is the
# same as before. A cancellation from elsewhere in the same tick wins.
#
# A global table refers to each block in progress, so its cutoff holds the task weakly; the loop keeps the task while
# the cutoff may interrupt it.

cdef double AGAIN_SECONDS = 0.001           # the wait for the end of an interruption in progress

cdef object _current_task = None            # asyncio's: imported only once asyncio runs something
cdef object _cancelled_error = None


cdef object _running_task():
    """The task that runs here, or None. Raises RuntimeError if no loop runs."""
    global _current_task, _cancelled_error
    if _current_task is None:
        import asyncio

        _cancelled_error, _current_task = asyncio.CancelledError, asyncio.current_task
    return _current_task()


cdef dict _kept_by(loop):
    """
    The tasks that a loop keeps alive during its own life, by the cutoff that will interrupt them.

    The timer's own `keep` would not do. It leads from the global table through the cutoff to the task, so a task of a
    loop that is gone would stay alive. A loop without attributes keeps nothing.
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
    cutoff = known()                        # the loop keeps it as long as it may expire
    if cutoff is not None:
        (<AsyncioCutoff?>cutoff)._expire()


@cython.final
@cython.auto_pickle(False)
cdef class AsyncioCutoff:
    """
    Interrupts one block of the task that starts it; reusable once that block is over.

    Args:
        suspended: See `resilio._backends.cutoff`.
    """
    cdef object suspended
    cdef object task                        # a weak reference
    cdef object timer
    cdef object handle                      # instead of a timer if no time is left
    cdef long cancelling                    # `task.cancelling()` as the block begins
    cdef long others                        # other requests to cancel it, once ours is taken back; before, -1
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
        """The task, which lives as long as it runs; the loop stops keeping it for this cutoff."""
        task = None if self.task is None else self.task()
        if task is not None:
            _kept_by(task.get_loop()).pop(self, None)
        return task

    def close(self, error):
        """End the block; True: the deadline ended it. After an interruption by a Ctrl-C, call it again to finish."""
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
        """Return True if the current task is the one to interrupt."""
        try:
            return self.task is not None and _running_task() is self.task()
        except RuntimeError:                # a thread without a loop
            return False

    def _expire(self):
        if self.closed:                     # a Ctrl-C came before the timer was stored
            return
        self.expired = True
        self.handle = None
        task = self._running()
        if task is None or (self.suspended is not None and self.suspended()):
            return
        # Leave its cleanup alone: look again when that is over.
        if task.cancelling() > self.cancelling:
            self._arm(task, AGAIN_SECONDS)
            return
        self.fired = True
        task.cancel()
