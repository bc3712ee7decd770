"""The members of a JSON object, found in its bytes without parsing their values: a part of sse.pyx."""

cdef enum:
    MOST_NAMES = 8


cdef struct Span:
    const char *at      # NULL: none
    Py_ssize_t size


cdef inline const char *_past_space(const char *at, const char *end) noexcept nogil:
    while at < end and (at[0] == c" " or at[0] == c"\n" or at[0] == c"\r" or at[0] == c"\t"):
        at += 1
    return at


cdef const char *_past_string(const char *at, const char *end) noexcept nogil:
    """The end of a string, behind its closing quote, from behind its opening quote; NULL if it is not closed."""
    cdef const char *quote
    cdef const char *before
    while True:
        quote = <const char *>memchr(at, c'"', end - at)
        if quote == NULL:
            return NULL
        before = quote
        while before > at and (before - 1)[0] == c"\\":
            before -= 1
        if (quote - before) & 1 == 0:
            return quote + 1
        at = quote + 1


cdef const char *_past_brackets(const char *at, const char *end) noexcept nogil:
    cdef Py_ssize_t depth = 0
    while at < end:
        if at[0] == c'"':
            at = _past_string(at + 1, end)
            if at == NULL:
                return NULL
            continue
        if at[0] == c"{" or at[0] == c"[":
            depth += 1
        elif at[0] == c"}" or at[0] == c"]":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return NULL


cdef const char *_past_value(const char *at, const char *end) noexcept nogil:
    """The end of a value, behind its last byte, from its first; NULL if it is no value or cut off."""
    cdef const char *first = at
    if at >= end:
        return NULL
    if at[0] == c'"':
        return _past_string(at + 1, end)
    if at[0] == c"{" or at[0] == c"[":
        return _past_brackets(at, end)
    while at < end and at[0] != c"," and at[0] != c"}" and at[0] != c"]" and at[0] > c" ":
        at += 1
    return at if at > first else NULL


cdef const char *_past_member(const char *at, const char *end, Span *key, Span *value) noexcept nogil:
    if at >= end or at[0] != c'"':
        return NULL
    key.at = at + 1
    at = _past_string(at + 1, end)
    if at == NULL:
        return NULL
    key.size = at - 1 - key.at
    at = _past_space(at, end)
    if at >= end or at[0] != c":":
        return NULL
    value.at = _past_space(at + 1, end)
    at = _past_value(value.at, end)
    if at != NULL:
        value.size = at - value.at
    return at


cdef bint _find(Span within, const Span *names, int count, Span *found) noexcept nogil:
    """
    Find members by their names; False, with none found, if it is no object.

    The last of several members of one name counts, as in Python.
    """
    cdef const char *at
    cdef const char *end = within.at + within.size
    cdef Span key, value
    cdef int i
    for i in range(count):
        found[i].at = NULL
    at = _past_space(within.at, end)
    if at >= end or at[0] != c"{":
        return False
    at = _past_space(at + 1, end)
    if at < end and at[0] == c"}":
        return _past_space(at + 1, end) == end
    while True:
        at = _past_member(at, end, &key, &value)
        if at == NULL:
            break
        for i in range(count):
            if names[i].size == key.size and memcmp(names[i].at, key.at, key.size) == 0:
                found[i] = value
        at = _past_space(at, end)
        if at < end and at[0] == c",":
            at = _past_space(at + 1, end)
            continue
        if at < end and at[0] == c"}" and _past_space(at + 1, end) == end:
            return True
        break
    for i in range(count):
        found[i].at = NULL
    return False


cdef inline bint _says(Span value) noexcept nogil:
    """Return True if the value is there and not null."""
    return value.at != NULL and not (value.size == 4 and memcmp(value.at, b"null", 4) == 0)


cdef inline bint _is_empty(Span array) noexcept nogil:
    cdef const char *end = array.at + array.size
    cdef const char *inner = _past_space(array.at + 1, end)
    return array.at[0] == c"[" and inner < end and inner[0] == c"]"


cdef bint _one_has(Span array, Span name) noexcept nogil:
    """Return True if an object in the array has that member, and it is not null."""
    cdef const char *at = array.at
    cdef const char *end = at + array.size
    cdef Span element, found
    if at >= end or at[0] != c"[":
        return False
    while True:
        element.at = _past_space(at + 1, end)
        at = _past_value(element.at, end)
        if at == NULL:
            return False
        element.size = at - element.at
        if _find(element, &name, 1, &found) and _says(found):
            return True
        at = _past_space(at, end)
        if at >= end or at[0] != c",":
            return False


cdef object _value(Span value):
    """The Python value of a scalar; the JSON bytes of an object or an array; None for anything else."""
    cdef Py_ssize_t i
    cdef int64_t number = 0
    if not _says(value):
        return None
    if value.at[0] == c"{" or value.at[0] == c"[":
        return value.at[:value.size]
    if value.at[0] == c'"' and memchr(value.at, c"\\", value.size) == NULL:
        return value.at[1:value.size - 1].decode("utf-8", "replace")
    if value.size == 4 and memcmp(value.at, b"true", 4) == 0:
        return True
    if value.size == 5 and memcmp(value.at, b"false", 5) == 0:
        return False
    if value.size <= 18 and (value.size == 1 or value.at[0] != c"0"):
        for i in range(value.size):
            if not c"0" <= value.at[i] <= c"9":
                break
            number = 10 * number + (value.at[i] - c"0")
        else:
            return number
    try:
        return loads(value.at[:value.size])
    except ValueError:
        return None


def members(bytes content not None, *names):
    """
    Return values of members of a JSON object, without parsing the others.

    A scalar is returned as its Python value, an object or an array as the bytes of its JSON. A member that is null or
    missing is None; all are if *content* is no object.

    Args:
        content: The JSON of the object, in UTF-8.

        names: The members' names, as bytes, at most 8; as they are written, without escapes.
    """
    cdef Span within
    cdef Span wanted[MOST_NAMES]
    cdef Span found[MOST_NAMES]
    cdef int i, count = <int>len(names)
    if count > MOST_NAMES:
        raise ValueError(f"names: at most {MOST_NAMES}, not {count}")
    within.at, within.size = content, len(content)
    memset(wanted, 0, sizeof(wanted))   # without names gcc sees a use of what was not set
    for i in range(count):
        wanted[i].at, wanted[i].size = <bytes?>names[i], len(names[i])
    _find(within, wanted, count, found)
    return [_value(found[i]) for i in range(count)]
