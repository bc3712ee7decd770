"""Regions of shared memory, for gates that share what they count (src_c/algorithms/shared/)."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "shared/member.h" nogil:
    enum:
        RS_WORKERS
        RS_LINE
        RS_CELL_LIMIT
        RS_CELL_SPEND
        RS_CELL_KEYS
        RS_CELL_PERMITS
        RS_CELL_ADAPTIVE
        RS_CELL_BREAKER
        RS_CELL_BUDGET
        RS_CELL_LEASE
        RS_CELL_VERDICT
        RS_CELL_SLOTS
        RS_CELL_MONEY
        RS_CELL_RESERVE
    ctypedef enum rs_role:
        RS_LEARNER
    ctypedef struct rs_roll:
        uint64_t living
    ctypedef struct rs_worker:
        uint32_t epoch
        uint32_t pid
        uint64_t since_ns
        uint64_t beat_ns
    ctypedef struct rs_member:
        rs_roll *roll
        rs_worker *workers
        int64_t epoch_ns
        uint32_t owner
        uint32_t slot
    uint32_t rs_member_owner(rs_member *)
    uint32_t rs_member_peers(const rs_member *)
    bint rs_member_leads(rs_member *, rs_role)
    uint32_t rs_owner_slot(uint32_t)

cdef extern from "shared/mapping.h" nogil:
    enum:
        RS_HASH_KEY
    ctypedef struct rs_region:
        uint64_t key[RS_HASH_KEY]
        rs_worker worker[RS_WORKERS]
    ctypedef struct rs_mapping:
        rs_member member
        rs_region *region
        char *path
        int fd
        uint64_t device
        uint64_t inode
        uint32_t trouble
        uint64_t reaped


cdef extern from "shared/courier.h" nogil:
    enum:
        RS_COURIER_SILENCE_NS
    ctypedef struct rs_courier:
        uint32_t owner
        uint32_t rings
        uint64_t id
        uint64_t seq
        uint64_t seen
        uint64_t at_ns
        uint64_t expires_ns
        uint32_t peers
    bint rs_courier_is_there(rs_courier *, const rs_member *, int64_t now_ns, int64_t silence_ns)
    bint rs_courier_claim(rs_courier *, const rs_member *, int64_t now_ns, int64_t silence_ns)
    void rs_courier_release(rs_courier *, const rs_member *)
    uint64_t rs_courier_id(rs_courier *, uint64_t)
    bint rs_courier_saw(rs_courier *, uint64_t seen, uint64_t seq)
    void rs_courier_ring(rs_courier *, rs_member *)
    void rs_courier_hush(rs_courier *)
    void rs_member_wait(rs_member *, int64_t wait_ns)
    void rs_member_ring(rs_member *)


cdef class Region:
    cdef rs_mapping *mapping
    cdef readonly Member member         # of this process
    cdef list members                   # of a private region: all that have a slot
    cdef object __weakref__
    cdef bint _grow(self, uint64_t more)


cdef class Member:
    cdef rs_member *it                  # that of the region, or `own`
    cdef rs_member own
    cdef readonly Region region


cdef class Cell:
    """
    The part of a region that one policy uses. A gate keeps it as long as it uses `body` and `member`.

    `key` is the region's secret for hashes.
    """

    cdef rs_member *member
    cdef void *loose                    # its own memory, or NULL
    cdef void *body                     # on a line of its own; zeroes when it is new
    cdef const uint64_t *key
    cdef readonly Region region
    cdef readonly Member worker         # whose `member` it is
    cdef readonly int kind
    cdef readonly str name
    cdef uint64_t asker_id(self) except 0
    cdef int64_t answer_ns(self) except? -1
    cdef uint64_t next_number(self, uint64_t *seen) except 0
    cpdef hush(self)
    cpdef bint claim(self) except -1
    cpdef count_peers(self, uint32_t peers)
    cpdef bint saw(self, uint64_t seen, uint64_t seq) except -1
    cpdef answered(self, int64_t at_ns, int64_t expires_ns)
