"""A region as an object: how it is opened, its cells, its workers. A part of shared.pyx."""


cdef class Region:
    """
    Memory that processes share, or that this process has for itself; made by :meth:`open` or :meth:`private`.

    A process has a slot in it from its first shared call on, or from :meth:`join` on.
    """

    def __dealloc__(self):
        if self.mapping != NULL:
            rs_house_remove(self.mapping)
            rs_mapping_free(self.mapping)

    @staticmethod
    def open(path, uint64_t size, uint32_t workers=RS_WORKERS):
        """
        Return the region in the file *path*, which is made if there is none; the same object if it is open already.

        Args:
            path: Of the file.

            size: Bytes of a new one; 0: make none.

            workers: Slots to choose from, 1 to 64.

        Raises:
            NotShared: The file cannot be used, and why.
        """
        cdef rs_open_result result
        cdef Region region
        cdef bytes raw = os.fsencode(path)
        cdef int number
        with _opening:
            region = _opened(path)
            if region is not None:
                return region
            region = Region.__new__(Region)
            region.mapping = rs_mapping_open(raw, size, workers, &result)
            number = errno
            if region.mapping == NULL:
                raise NotShared(_REFUSALS[<int>result], _why(path, <int>result, number))
            _adopt(region)
            _open[region.mapping.device, region.mapping.inode] = region
        return region

    @staticmethod
    def private(uint64_t size=1 << 20, epoch_ns=None):
        """
        Return a region of this process alone, with a slot for it.

        Args:
            size: Bytes.

            epoch_ns: The time on resilio's clock since which its times are; None: now.
        """
        cdef Region region = Region.__new__(Region)
        cdef uint64_t key[RS_HASH_KEY]
        cdef int64_t now_ns = rs_clock_now(_clock)
        key[0], key[1] = seed64(), seed64()
        region.mapping = rs_mapping_private(size, now_ns if epoch_ns is None else epoch_ns, key)
        if region.mapping == NULL:
            raise MemoryError("no memory for a region")
        _adopt(region)
        _enter(region, region.member)
        return region

    def close(self):
        """
        Give back the slot and forget the file; cells may still be used, for themselves.

        Not for a region that other policies use.
        """
        with _opening:
            _open.pop((self.mapping.device, self.mapping.inode), None)
            with nogil:
                rs_house_remove(self.mapping)

    def cell(self, int kind, str name, bytes stock, uint64_t size, Member member=None, *,
             uint64_t grow=0, uint64_t leave=0):
        """
        Return the cell of this kind, name and stock, which is made if there is none.

        Args:
            kind: One of RS_CELL_LIMIT, ...

            name: Of the policy.

            stock: The options that define the stock, in canonical form. Others are another cell.

            size: Bytes of the body.

            member: Of a private region; None: this process's.

            grow: Bytes that shall be left if the region has to grow for the cell; 0: it does not grow.

            leave: Of one of many, a cell a key: bytes that those leave to others, beside half of the 1,024 entries.

        Raises:
            SharedFull: There is no room for it.
        """
        cdef rs_cell_wanted wanted
        cdef rs_cell_head *found = NULL
        cdef Cell cell = Cell.__new__(Cell)
        cdef bytes called = name.encode("utf-8", "surrogatepass")
        wanted.kind, wanted.size = kind, size
        wanted.name, wanted.name_size = called, <uint32_t>len(called)
        wanted.stock, wanted.stock_size = stock, <uint32_t>len(stock)
        wanted.leave = leave
        cdef rs_cell_result result = rs_region_cell(self.mapping.region, &wanted, &found)
        if result == RS_CELL_NO_ROOM and grow and self._grow(size + len(called) + len(stock) + grow):
            result = rs_region_cell(self.mapping.region, &wanted, &found)
        if result != RS_CELL_FOUND:
            free = self.size - rs_shared_used(self.mapping.region)
            text = f"{name!r} needs {size} bytes, and the region has {free} of {self.size} left"
            raise SharedFull(f"{text}, of which keys with a cell each leave {leave} to others" if leave else text)
        cell.region, cell.kind, cell.name = self, kind, name
        cell.worker = self.member if member is None else member
        cell.body = rs_cell_body(found)
        cell.key = self.mapping.region.key
        cell.member = cell.worker.it
        return cell

    def loose_cell(self, int kind, str name, uint64_t size):
        """Return a new cell of this process alone, whose memory ends with the object: one of many, as for a key."""
        cdef Cell cell = Cell.__new__(Cell)
        cell.loose = calloc(1, size + RS_LINE)
        if cell.loose == NULL:
            raise MemoryError("no memory for a cell")
        cell.region, cell.kind, cell.name, cell.worker = self, kind, name, self.member
        cell.body = <void *>((<size_t>cell.loose + RS_LINE - 1) // RS_LINE * RS_LINE)
        cell.key = self.mapping.region.key
        cell.member = self.member.it
        return cell

    cdef bint _grow(self, uint64_t more):
        with nogil:
            return rs_shared_grow(self.mapping, more)

    def join(self):
        """Return this process's member with a slot, as after its first shared call; of a private region a new one."""
        cdef Member member = self.member
        if self.mapping.path != NULL:
            rs_member_owner(member.it)
            return member
        member = Member.__new__(Member)
        member.region, member.it = self, &member.own
        member.own = self.mapping.member
        _enter(self, member)
        return member

    def reap(self):
        """Free what dead workers held, and return their number."""
        return rs_mapping_reap(self.mapping)

    @property
    def path(self):
        """The file's path; None for a private region."""
        return None if self.mapping.path == NULL else os.fsdecode(self.mapping.path)

    @property
    def size(self):
        """Bytes in all."""
        return rs_region_size(self.mapping.region)

    @property
    def used(self):
        """Bytes in use."""
        return rs_shared_used(self.mapping.region)

    @property
    def inode(self):
        """The number of its file in the file system; 0 if it is of this process alone."""
        return self.mapping.inode

    @property
    def trouble(self):
        """Why this process does not share: "no_slot", "no_locks", "no_thread" or "gone"; None: it does, or may."""
        return TROUBLES[self.mapping.trouble]

    @property
    def reaped(self):
        """Dead workers that this process has found."""
        return self.mapping.reaped

    @property
    def leader(self):
        """The slot of the worker that learns for all; None if there is none."""
        slot = rs_shared_leader(self.mapping.region, RS_LEARNER)
        return None if slot < 0 else slot

    def workers(self):
        """Return (slot, process id, seconds since it came, seconds since it beat) of each worker that lives."""
        cdef int64_t now_ns = rs_clock_now(_clock) - self.mapping.member.epoch_ns
        cdef rs_worker *worker
        cdef uint64_t living = rs_shared_living(self.mapping.region)
        found = []
        for slot in range(RS_WORKERS):
            if living >> slot & 1 and self._lives(slot):
                worker = &self.mapping.region.worker[slot]
                since_ns, beat_ns = <int64_t>worker.since_ns, <int64_t>worker.beat_ns
                found.append((slot, worker.pid, (now_ns - since_ns) / 1e9, (now_ns - beat_ns) / 1e9))
        return found

    def _lives(self, uint32_t slot):
        cdef rs_member *me = &self.mapping.member
        is_mine = me.owner != 0 and me.slot == slot
        return is_mine or self.mapping.path == NULL or rs_slot_is_held(self.mapping.fd, slot)

    def cells(self):
        """Return (kind, name, stock, bytes) of each cell."""
        cdef rs_cell_head *cell
        found = []
        for i in range(RS_REGION_ENTRIES):
            cell = rs_shared_entry(self.mapping.region, i)
            if cell != NULL:
                name = cell.text[:cell.name_size].decode("utf-8", "surrogatepass")
                stock = cell.text[cell.name_size:cell.name_size + cell.stock_size]
                found.append((cell.kind, name, stock, cell.size))
        return found
