"""
The numbers of a rate limit's asks and answers in its fleet: a part of gates.pyx, after limiter.pxi.

The classes LimitAsk and LimitAnswer (resilio/sharing/_fleet/ask.py) extend these. A trip has many of them, as text.
"""

cdef extern from "Python.h":
    object PyUnicode_DecodeASCII(const char *, Py_ssize_t, const char *)
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL

cdef extern from "string.h" nogil:
    void *memchr(const void *, int, size_t)

cdef extern from *:
    """
    /* A new object of a class that extends one of Cython's. */
    static inline PyObject *rs_new_of(PyObject *type, PyObject *args)
    {
        return ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, args, NULL);
    }
    """
    object rs_new_of(object, object)

cdef enum:
    _ASKED = 16                 # numbers of an ask
    _ANSWERED = 7               # ... and of an answer
    _MOST_DIGITS = 21           # of a number, with its sign and the space before it
    _MOST_OF_ASK = 5 + _ASKED * _MOST_DIGITS + 1
    _MOST_OF_HEAD = 24          # of a word's length and the ends of its lines


cdef char *_write(char *at, int64_t number) noexcept nogil:
    """Write a number in decimal, and return its end."""
    cdef char digits[_MOST_DIGITS]
    cdef uint64_t rest = <uint64_t>number
    cdef int n = 0
    if number < 0:
        at[0], rest = c"-", 0 - rest
        at += 1
    while n == 0 or rest:
        digits[n], rest = <char>(c"0" + rest % 10), rest // 10
        n += 1
    while n:
        n -= 1
        at[0] = digits[n]
        at += 1
    return at


cdef const char *_parse(const char *at, int64_t *number) noexcept nogil:
    """Read a number in decimal, one that is too large as the largest, and return its end; NULL: there is none."""
    cdef bint below_zero = at[0] == c"-"
    cdef const char *begin = at + below_zero
    cdef uint64_t found = 0, digit
    at = begin
    while c"0" <= at[0] <= c"9":
        digit = <uint64_t>(at[0] - c"0")
        found = 10 * found + digit if found <= (<uint64_t>INT64_MAX - digit) // 10 else <uint64_t>INT64_MAX
        at += 1
    number[0] = -<int64_t>found if below_zero else <int64_t>found
    if at == begin:
        return NULL
    return at


cdef tuple _tuple_of(const int64_t *number, int n):
    return tuple([number[i] for i in range(n)])


cdef class LimitAnswerNumbers:
    """The numbers of an answer, in their order; see LimitAnswer."""

    cdef public int64_t seq, grant, credit, wait_us, peers, left, at_us

    def __init__(self, int64_t seq, int64_t grant, int64_t credit, int64_t wait_us, int64_t peers, int64_t left,
                 int64_t at_us=0):
        """Take the numbers."""
        self.seq, self.grant, self.credit = seq, grant, credit
        self.wait_us, self.peers, self.left, self.at_us = wait_us, peers, left, at_us

    def __repr__(self):
        return f"{type(self).__name__}{self.numbers()}"

    def __eq__(self, other):
        return type(self) is type(other) and self.numbers() == other.numbers()

    __hash__ = None

    def numbers(self):
        """Return all numbers in their order."""
        return _tuple_of(&self.seq, _ANSWERED)


cdef class StoreProblem:
    """
    The reason why the store has not answered one ask, or none of a trip.

    Attributes:
        why: The error as text, of the store, of its client, or of the engine.
    """

    cdef readonly str why

    def __init__(self, str why not None):
        """Take the text."""
        self.why = why

    def __repr__(self):
        return f"StoreProblem({self.why!r})"

    def __eq__(self, other):
        return isinstance(other, StoreProblem) and self.why == (<StoreProblem>other).why

    __hash__ = None


cdef class LimitAskNumbers:
    """The key and the numbers of an ask, in their order; see LimitAsk."""

    kind = "limit"

    cdef public str key
    cdef public int64_t asker, seq, seen, by_us, amount, period_us, burst, left, kept, demand, want, spare, least, cost
    cdef public int64_t tick_us, ttl_us

    def __init__(self, *, str key not None, int64_t asker, int64_t seq, int64_t seen=0, int64_t by_us=0,
                 int64_t amount, int64_t period_us, int64_t burst, int64_t left=0, int64_t kept=0, int64_t demand=0,
                 int64_t want=0, int64_t spare=0, int64_t least=0, int64_t cost=TOKEN, int64_t tick_us=250_000,
                 int64_t ttl_us=1_250_000):
        """Take the key and the numbers."""
        self.key, self.asker, self.seq, self.seen, self.by_us = key, asker, seq, seen, by_us
        self.amount, self.period_us, self.burst = amount, period_us, burst
        self.left, self.kept, self.demand, self.want, self.spare, self.least = left, kept, demand, want, spare, least
        self.cost, self.tick_us, self.ttl_us = cost, tick_us, ttl_us

    def __repr__(self):
        return f"{type(self).__name__}({self.key!r}, {self.numbers()})"

    def __eq__(self, other):
        return type(self) is type(other) and self.key == other.key and self.numbers() == other.numbers()

    __hash__ = None

    def numbers(self):
        """Return all numbers in their order."""
        return _tuple_of(&self.asker, _ASKED)

    def text(self):
        """Return the kind and the numbers as a line for the store's script."""
        cdef char line[_MOST_OF_ASK]
        return PyUnicode_DecodeASCII(line, self._write(line) - line, NULL)

    cdef char *_write(self, char *at) noexcept:
        """Write the line, and return its end."""
        cdef const int64_t *number = &self.asker
        cdef int i
        at += self._write_kind(at)
        for i in range(_ASKED):
            at[0] = c" "
            at = _write(at + 1, number[i])
        return at

    cdef int _write_kind(self, char *at) noexcept:
        memcpy(at, b"limit", 5)
        return 5

    def read(self, bytes line not None):
        """
        Return the answer in a line of the script's reply.

        Raises:
            ValueError: It is none.
        """
        return self._read(line, len(line))

    cdef LimitAnswerNumbers _read(self, const char *line, Py_ssize_t size):
        cdef LimitAnswerNumbers answer = rs_new_of(self.answer, ())
        cdef int64_t *number = &answer.seq
        cdef const char *at = line
        cdef int i
        for i in range(_ANSWERED):
            at = _parse(at, &number[i])
            if at == NULL or (at - line != size if i == _ANSWERED - 1 else at[0] != c" "):
                raise ValueError(f"no answer to an ask for tokens: {line[:size]!r}")
            at += 1
        return answer


cdef class WindowAskNumbers(LimitAskNumbers):
    """The same of an ask for tokens of an exact window; see WindowAsk."""

    kind = "window"

    cdef int _write_kind(self, char *at) noexcept:
        memcpy(at, b"window", 6)
        return 6


def answers_of(list asks not None, bytes raw not None):
    """
    Return what a reply of the script has for each ask: its answer, or the error of the store.

    Args:
        asks: The asks, in the order of their lines.

        raw: The reply.

    Raises:
        ValueError: A line is no answer, or there are more or less than asks.
    """
    cdef const char *at = raw
    cdef const char *end = at + len(raw)
    cdef const char *stop
    cdef list answers = []
    for ask in asks:
        if at > end:
            raise ValueError(f"{len(answers)} answers to {len(asks)} asks")
        stop = <const char *>memchr(at, c"\n", end - at)
        if stop == NULL:
            stop = end
        if at[0] == c"!":
            answers.append(StoreProblem((<bytes>at[1:stop - at]).decode("utf-8", "replace")))
        elif isinstance(ask, LimitAskNumbers):
            answers.append((<LimitAskNumbers>ask)._read(at, stop - at))
        else:
            answers.append(ask.read(at[:stop - at]))
        at = stop + 1
    if at <= end:
        raise ValueError(f"more than {len(asks)} answers")
    return answers


def command_of(str name not None, str script not None, list asks not None):
    """
    Return a command that exchanges all asks, as Valkey and Redis read it: its words, with their lengths.

    Args:
        name: "EVALSHA" or "EVAL".

        script: The script's name, or its text.

        asks: Their keys are words, and their texts are the last one, a line for each.
    """
    cdef Py_ssize_t size = 0, most = len(name) + _MOST_OF_HEAD * 5, most_text = 1
    cdef list texts = []            # of asks of other kinds
    cdef char *begin
    cdef char *text
    PyUnicode_AsUTF8AndSize(script, &size)
    most += size
    for ask in asks:
        PyUnicode_AsUTF8AndSize(_key_of(ask), &size)
        most += size + _MOST_OF_HEAD
        if isinstance(ask, LimitAskNumbers):
            most_text += _MOST_OF_ASK
        else:
            texts.append(ask.text())
            PyUnicode_AsUTF8AndSize(texts[len(texts) - 1], &size)
            most_text += size + 1
    begin = <char *>malloc(most + 2 * most_text)
    if begin == NULL:
        raise MemoryError
    text = begin + most + most_text
    try:
        size = _write_texts(text, asks, texts) - text
        found = begin[:_write_command(begin, name, script, asks, text, size) - begin]
    finally:
        free(begin)
    return found


cdef str _key_of(ask):
    return (<LimitAskNumbers>ask).key if isinstance(ask, LimitAskNumbers) else ask.key


cdef char *_write_command(char *at, str name, str script, list asks, const char *text, Py_ssize_t size) except NULL:
    at = _head_of(at, c"*", len(asks) + 4)
    at = _write_word(_write_word(at, name), script)
    at = _write_word(at, str(len(asks)))
    for ask in asks:
        at = _write_word(at, _key_of(ask))
    return _write_bytes(at, text, size)


cdef char *_write_texts(char *at, list asks, list texts) except NULL:
    """Write a line for each ask, and return the end of the last one."""
    cdef Py_ssize_t size = 0, other = 0
    cdef const char *text
    for i, ask in enumerate(asks):
        if i:
            at[0] = c"\n"
            at += 1
        if isinstance(ask, LimitAskNumbers):
            at = (<LimitAskNumbers>ask)._write(at)
        else:
            text = PyUnicode_AsUTF8AndSize(texts[other], &size)
            memcpy(at, text, size)
            at, other = at + size, other + 1
    return at


cdef char *_write_word(char *at, str word) except NULL:
    cdef Py_ssize_t size = 0
    cdef const char *text = PyUnicode_AsUTF8AndSize(word, &size)
    return _write_bytes(at, text, size)


cdef char *_write_bytes(char *at, const char *text, Py_ssize_t size) noexcept:
    at = _head_of(at, c"$", size)
    memcpy(at, text, size)
    memcpy(at + size, b"\r\n", 2)
    return at + size + 2


cdef char *_head_of(char *at, char kind, Py_ssize_t size) noexcept:
    at[0] = kind
    at = _write(at + 1, size)
    memcpy(at, b"\r\n", 2)
    return at + 2
