"""Facts about the build of the compiled core, for `resilio doctor`, from the compiler's macros."""

__all__ = ["build_facts"]

cdef extern from *:
    """
    #define RS_TEXT_(x) #x
    #define RS_TEXT(x) RS_TEXT_(x)
    #if defined(__clang__)
    #define RS_COMPILER "Clang " __clang_version__
    #elif defined(__GNUC__)
    #define RS_COMPILER "GCC " __VERSION__
    #elif defined(_MSC_VER)
    #define RS_COMPILER "MSVC " RS_TEXT(_MSC_VER)
    #else
    #define RS_COMPILER "an unknown compiler"
    #endif

    #if defined(__SANITIZE_ADDRESS__)
    #define RS_SANITIZED 1
    #elif defined(__has_feature)
    #if __has_feature(address_sanitizer)
    #define RS_SANITIZED 1
    #endif
    #endif
    #ifndef RS_SANITIZED
    #define RS_SANITIZED 0
    #endif

    #if defined(CYTHON_TRACE_NOGIL) && CYTHON_TRACE_NOGIL
    #define RS_TRACED 1
    #else
    #define RS_TRACED 0
    #endif

    #ifdef __OPTIMIZE__
    #define RS_OPTIMISED 1
    #else
    #define RS_OPTIMISED 0
    #endif

    #ifdef Py_GIL_DISABLED
    #define RS_FREE_THREADED 1
    #else
    #define RS_FREE_THREADED 0
    #endif
    """
    const char *RS_COMPILER
    const char *PY_VERSION
    bint RS_SANITIZED, RS_TRACED, RS_OPTIMISED, RS_FREE_THREADED


def build_facts() -> dict:
    """
    Return facts about this build.

    Returns:
        `compiler`; `python`, the version of its headers; `free_threaded`, `optimised`, `traced` (made for coverage:
        slow) and `sanitized`.
    """
    return {
        "compiler": RS_COMPILER.decode(),
        "python": PY_VERSION.decode(),
        "free_threaded": RS_FREE_THREADED,
        "optimised": RS_OPTIMISED,
        "traced": RS_TRACED,
        "sanitized": RS_SANITIZED,
    }
