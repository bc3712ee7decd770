# cython: boundscheck=False, wraparound=False
"""
The state of a stream of server-sent events, read from its bytes: progress, completeness, usage and errors.

It is native and parses little because an SDK parses each event already. Only usage and errors become Python objects.

Source: WHATWG HTML, section 9.2.6 (server-sent events); RFC 8259 (JSON).
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcmp, memset

from json import loads

__all__ = ["BEGINS", "ENDS", "FAILS", "PING", "UNSEEN", "Kinds", "Reader", "members", "model_of", "object_of"]

BEGINS = 1
UNSEEN = 2
PING = 4
ENDS = 8
FAILS = 16

cdef enum:
    IS_BEGIN = 1
    IS_UNSEEN = 2
    IS_PING = 4
    IS_END = 8
    IS_FAILURE = 16
    MOST_KINDS = 24

include "sse_members.pxi"


cdef inline bint _begins(Span text, const char *start, Py_ssize_t size) noexcept nogil:
    return text.size >= size and memcmp(text.at, start, size) == 0


cdef class Kinds:
    """
    The meanings of the types of a provider's events: flags for each.

    BEGINS: it belongs to a stream with a known end mark. UNSEEN: it shows the caller no part of an answer. PING: it
    only keeps the connection alive. ENDS: it completes the answer. FAILS: it may bring an error.
    """

    cdef tuple _names
    cdef Span _spans[MOST_KINDS]
    cdef int _flags[MOST_KINDS]
    cdef int _count

    def __init__(self, kinds):
        """
        Keep the flags.

        Args:
            kinds: Flags by type; a type that ends with * stands for all types with that prefix.
        """
        if len(kinds) > MOST_KINDS:
            raise ValueError(f"kinds: at most {MOST_KINDS}, not {len(kinds)}")
        self._names = tuple([kind.encode() for kind in kinds])
        self._count = 0
        for name, flags in zip(self._names, kinds.values()):
            self._spans[self._count].at, self._spans[self._count].size = <bytes>name, len(name)
            self._flags[self._count] = flags
            self._count += 1

    cdef int of(self, Span kind) noexcept nogil:
        cdef Span known
        cdef int i, flags = 0
        for i in range(self._count if kind.at != NULL else 0):
            known = self._spans[i]
            if known.at[known.size - 1] == c"*":
                if _begins(kind, known.at, known.size - 1):
                    flags |= self._flags[i]
            elif known.size == kind.size and memcmp(known.at, kind.at, known.size) == 0:
                flags |= self._flags[i]
        return flags


cdef Span _TYPE, _USAGE, _REASON
cdef Span _MEMBERS[6]
_TYPE.at, _TYPE.size = b"type", 4
_USAGE.at, _USAGE.size = b"usage", 5
_REASON.at, _REASON.size = b"finish_reason", 13
_MEMBERS[0], _MEMBERS[1] = _TYPE, _USAGE
_MEMBERS[2].at, _MEMBERS[2].size = b"error", 5
_MEMBERS[3].at, _MEMBERS[3].size = b"choices", 7
_MEMBERS[4].at, _MEMBERS[4].size = b"message", 7
_MEMBERS[5].at, _MEMBERS[5].size = b"response", 8


cdef struct Event:
    Span name, data         # NULL: no such field
    Span type, usage, error, choices, message, response


cdef inline const char *_line_end(const char *at, const char *end) noexcept nogil:
    """The first line feed or carriage return from *at* on, or the end."""
    cdef const char *feed = <const char *>memchr(at, c"\n", end - at)
    cdef const char *carriage
    if feed == NULL:
        feed = end
    carriage = <const char *>memchr(at, c"\r", feed - at)
    return feed if carriage == NULL else carriage


def object_of(bytes json not None):
    """
    Return the object in a piece of JSON; an empty one if it is no object.

    Args:
        json: UTF-8, which need not be valid.
    """
    try:
        found = loads(json.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        found = None
    return found if type(found) is dict else {}


def model_of(bytes answer not None, bytes usage not None):
    """
    Return the name of the model that has answered: of the usage, else of the answer; None: neither has one.

    Args:
        answer: The JSON of the answer.

        usage: The JSON of its usage.
    """
    for json in (usage, answer):
        model, = members(json, b"model")
        if isinstance(model, str) and model:
            return model
    return None


cdef dict _object(Span json):
    return object_of(json.at[:json.size]) if json.size else {}


cdef class Reader:
    """
    Reads the bytes of one answer, and holds them back until they include an event that counts.

    At first only events that are part of the answer count; once some bytes are taken, all but pings do.

    Attributes:
        moved: True if the held bytes include an event that counts.

        complete: True if the answer is complete.

        error: The error in the stream, and whether the SDK raises it; None: none.

        usage: The usage of the answer, as far as it is known.

        model: The name of the model beside the usage; None: none.
    """

    cdef object _dialect
    cdef Kinds _kinds
    cdef list _held
    cdef bytearray _rest            # of an incomplete event
    cdef Py_ssize_t _line           # offsets in `_rest`: the start of the last line, the end of the part searched
    cdef Py_ssize_t _seen
    cdef bint _events, _any, _after_return, _opened, _begun, _reasoned
    cdef readonly bint moved
    cdef readonly bint complete
    cdef readonly object error
    cdef readonly dict usage
    cdef readonly object model

    def __init__(self, dialect, *, bint events):
        """
        Begin without bytes.

        Args:
            dialect: The dialect of the provider.

            events: Whether it is a stream of events; if not, each chunk counts.
        """
        self._dialect = dialect
        self._kinds = dialect.kinds
        self._held = []
        self._rest = bytearray()
        self._line = self._seen = 0
        self._events = events
        self._any = self._after_return = self._opened = self._begun = self._reasoned = False
        self.moved = self.complete = False
        self.error = None
        self.usage = {}
        self.model = None

    @property
    def cut(self):
        """True if the answer is incomplete, should it end here."""
        return self._begun and not self.complete and not self._reasoned

    def feed(self, chunk):
        """Read the next chunk."""
        cdef bytes piece = chunk if type(chunk) is bytes else bytes(chunk)
        self._held.append(piece)
        if self._events:
            self._read(piece)
        else:
            self.moved = True

    def end(self):
        """Read the end, which may complete an event: many servers leave out its blank line."""
        if self._events and self._rest:
            self._after_return = False
            self._read(b"\n" if self._seen == self._line else b"\n\n")

    def take(self):
        """Return the held bytes, and hold none."""
        cdef list held = self._held
        taken = held[0] if len(held) == 1 else b"".join(held)
        self._held = []
        self._opened |= self.moved
        self.moved = False
        return taken

    cdef int _read(self, bytes piece) except -1:
        cdef Py_ssize_t done, size
        cdef Py_buffer whole
        if self._rest:
            self._rest += piece
            PyObject_GetBuffer(self._rest, &whole, PyBUF_SIMPLE)    # it must not move if fed meanwhile
            try:
                done = self._scan(<const char *>whole.buf, whole.len)
            finally:
                PyBuffer_Release(&whole)
            if done:
                del self._rest[:done]
            return 0
        size = len(piece)
        done = self._scan(piece, size)
        if done < size:
            self._rest += piece[done:]
        return 0

    cdef Py_ssize_t _scan(self, const char *data, Py_ssize_t size) except -1:
        """Read the complete events; return the offset of the first incomplete one."""
        cdef Py_ssize_t begin = 0, line = self._line, at = self._seen
        cdef const char *end = data + size
        cdef const char *stop
        while at < size:
            if self._after_return:
                self._after_return = False
                if data[at] == c"\n":       # the second half of a line's end
                    at += 1
                    begin, line = at if begin == line else begin, at
                    continue
            stop = _line_end(data + at, end)
            at = stop - data
            if stop == end:
                break
            self._after_return = stop[0] == c"\r"
            if at == line:
                if line > begin:
                    self._block(data + begin, line - begin)
                begin = at + 1
            at += 1
            line = at
        self._line, self._seen = line - begin, size - begin
        return begin

    cdef int _block(self, const char *at, Py_ssize_t size) except -1:
        """Read the lines of an event."""
        cdef const char *end = at + size
        cdef const char *stop
        cdef Span line, none
        cdef Event event
        cdef list several = None
        none.at, none.size = NULL, 0
        event.name = event.data = none
        line.at, line.size = at, size
        if not self._any and _begins(line, b"\xef\xbb\xbf", 3):     # a byte order mark
            at += 3
        self._any = True
        while at < end:
            stop = _line_end(at, end)
            line.at, line.size = at, stop - at
            at = stop + 1
            if _field(&line, b"data", 4):
                if event.data.at != NULL:
                    if several is None:
                        several = [event.data.at[:event.data.size]]
                    several.append(line.at[:line.size])
                event.data = line
            elif _field(&line, b"event", 5):
                event.name = line
        if event.data.at == NULL and event.name.at == NULL:
            return 0
        if several is not None:
            joined = b"\n".join(several)
            event.data.at, event.data.size = <bytes>joined, len(joined)
        return self._event(&event)

    cdef int _event(self, Event *event) except -1:
        cdef Span found[6]
        cdef int flags = 0
        cdef bint counts
        found[0].at = found[1].at = found[2].at = found[3].at = found[4].at = found[5].at = NULL
        if event.data.size and event.data.at[0] == c"{":
            _find(event.data, _MEMBERS, 6, found)
        event.type, event.usage, event.error = found[0], found[1], found[2]
        event.choices, event.message, event.response = found[3], found[4], found[5]
        flags = self._flags_of(event)
        self._begun |= flags & IS_BEGIN != 0
        self._learn(event)
        if self.error is None and (flags & IS_FAILURE or _says(event.error)):
            named = event.name.size == 5 and _begins(event.name, b"error", 5)
            self.error = self._dialect.error_in(named, _object(event.data))
        if self.error is not None:
            return 0
        counts = not flags & (IS_PING if self._opened else IS_PING | IS_UNSEEN)
        if counts and event.choices.at != NULL and not self._opened and not self.moved:
            counts = self._dialect.shows(_object(event.data))
        self.moved |= counts
        self.complete |= flags & IS_END != 0
        if event.choices.at != NULL and not _is_empty(event.choices):   # without choices: the usage, after the reason
            self._reasoned = _one_has(event.choices, _REASON)           # some servers end here, others send [DONE]
        return 0

    cdef int _flags_of(self, Event *event) noexcept:
        """The flags of an event by its type (its name if it has none), its choices, and the start of its data."""
        cdef Span kind = event.type
        cdef int flags
        if kind.at != NULL and kind.at[0] == c'"':
            kind.at += 1
            kind.size -= 2
        else:
            kind = event.name
        flags = self._kinds.of(kind) | self._kinds.of(event.name) & (IS_PING | IS_FAILURE)
        if event.choices.at != NULL:
            flags |= IS_BEGIN
        if event.data.at == NULL or not event.data.size:
            flags |= IS_PING
        elif _begins(event.data, b"[DONE]", 6):
            flags |= IS_END
        return flags

    cdef int _learn(self, Event *event) except -1:
        """Add the usage of an event, found in itself or in its message or response, and the model named there."""
        cdef Span usage = event.usage, within = event.data
        if not _says(usage) and event.message.at != NULL:
            within = event.message
            _find(within, &_USAGE, 1, &usage)
        if not _says(usage) and event.response.at != NULL:
            within = event.response
            _find(within, &_USAGE, 1, &usage)
        if _says(usage):
            self.usage |= self._dialect.usage(usage.at[:usage.size])
            self.model = model_of(within.at[:within.size], usage.at[:usage.size]) or self.model
        return 0


cdef bint _field(Span *line, const char *name, Py_ssize_t size) noexcept nogil:
    """Return True if it is a line of that field, and reduce it to the value."""
    if line.size < size or memcmp(line.at, name, size) != 0:
        return False
    if line.size > size and line.at[size] != c":":
        return False
    size += line.size > size
    size += line.size > size and line.at[size] == c" "
    line.at += size
    line.size -= size
    return True
