"""
Keys of calls that go to one endpoint each, as numbers. A part of pool.pyx.
"""

cdef extern from *:
    """
    static inline uint64_t rs_text_hash(const char *text, Py_ssize_t n)     /* FNV-1a, of 64 bits */
    {
        uint64_t hash = 0xCBF29CE484222325ull;
        for (Py_ssize_t i = 0; i < n; i++)
            hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3ull;
        return hash;
    }
    """
    uint64_t rs_text_hash(const char *, Py_ssize_t)


cdef uint64_t hash_of(object key) except? 0:
    """
    A hash of a key that is the same in all processes, never 0: that of its text.

    `hash()` of a text is another one in each process, and workers would send a key to different endpoints.
    """
    cdef bytes text = (key if isinstance(key, str) else repr(key)).encode("utf-8", "surrogatepass")
    return rs_text_hash(text, len(text)) or 1


cdef uint64_t key_of(PoolTable table, const rs_request *request) noexcept:
    """The hash of a call's key; 0 without one: then the call goes where it would go without affinity."""
    cdef CallKey by = table.affinity
    try:
        key = by.of(request)
        return 0 if key is None else hash_of(key)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()                # not the function's: raised again at the next safe point
    except BaseException as error:
        try:
            table.report(error)
        except BaseException:               # even the report failed
            pass
    return 0
