"""Words of a cell in which policies written in Python count: what all have taken, and others. Part of shared.pyx."""

SPEND_CELL, MONEY_CELL = RS_CELL_SPEND, RS_CELL_MONEY


cdef class Taken:
    """
    A number that all who have this cell move on; see shared/limit.h, of whose words it is one.

    Its methods are atomic. Amounts are > 0; amounts below a `base` have lapsed.
    """

    cdef Cell cell
    cdef rs_word64 *word

    def __init__(self, Cell cell not None):
        """Use this cell, of the kind `SPEND_CELL`; or of `MONEY_CELL`, behind its courier's line."""
        self.cell = cell
        self.word = <rs_word64 *>(<char *>cell.body + (RS_LINE if cell.kind == RS_CELL_MONEY else 0))

    def taken(self, int64_t base):
        """Return what was taken."""
        return max(<int64_t>rs_word_load(self.word), base)

    def take(self, int64_t base, int64_t amount, int64_t most):
        """
        Take an amount if no more than *most* is taken then; False: nothing has changed.

        Of a fleet's cell the process joins its region first: with a place there it may make trips for the cell.
        """
        if self.cell.kind == RS_CELL_MONEY:
            rs_member_owner(self.cell.member)
        return bool(rs_word_move(self.word, rs_word_load(self.word), base, amount, most))

    def debit(self, int64_t base, int64_t amount):
        """Take an amount, whether it is there or not."""
        rs_word_move(self.word, rs_word_load(self.word), base, amount, INT64_MAX)

    def give_back(self, int64_t amount):
        """Undo the taking of an amount."""
        rs_word_sub(self.word, <uint64_t>amount)

    def set(self, int64_t taken):
        """Set what was taken."""
        rs_word_store(self.word, <uint64_t>taken)


cdef class Words:
    """The words of a cell of the kind `MONEY_CELL`, by their numbers; each is read and written by itself."""

    cdef Cell cell
    cdef rs_word64 *words

    def __init__(self, Cell cell not None):
        """Use the words behind those of the courier, and of what was taken."""
        if cell.kind != RS_CELL_MONEY:
            raise TypeError(f"the cell of {cell.name!r} has no words")
        self.cell = cell
        self.words = <rs_word64 *>(<char *>cell.body + 2 * RS_LINE)

    def get(self, int i):
        """Return a word."""
        return <int64_t>rs_word_load(&self.words[i])

    def set(self, int i, int64_t value):
        """Write a word."""
        rs_word_store(&self.words[i], <uint64_t>value)

    def add(self, int i, int64_t more):
        """Add to a word."""
        rs_word_add(&self.words[i], <uint64_t>more)

    def empty(self, int i):
        """Set a word to 0, and return what it was."""
        cdef uint64_t seen = rs_word_load(&self.words[i])
        while seen != 0 and not rs_word_swap(&self.words[i], &seen, 0):
            pass
        return <int64_t>seen

    def most(self, int i, int64_t value):
        """Let a word be at least this."""
        cdef uint64_t seen = rs_word_load(&self.words[i])
        while <int64_t>seen < value and not rs_word_swap(&self.words[i], &seen, <uint64_t>value):
            pass

    def least(self, int i, int64_t value):
        """Let a word be at most this; 0 stands for none."""
        cdef uint64_t seen = rs_word_load(&self.words[i])
        while (seen == 0 or <int64_t>seen > value) and not rs_word_swap(&self.words[i], &seen, <uint64_t>value):
            pass
